"""When labels count: samples in the order in which they may be learned, a pure function of the log.

    label times, no window    a sample is learned when the last of its labels was known
    a window                  a sample is learned when its window ends, with the outcomes known by then, the others
                              negative; a positive known later comes as an entry of its own (again)
    neither                   labels are known with their samples: there is no order but the log's

The stream decides the same as samples and outcomes arrive (stream/workers/delayed_labels).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from recdistill.config.data import LabelsConfig
from recdistill.data.store.memmap import create_column, open_column
from recdistill.data.store.piles import in_order
from recdistill.typing import Array

__all__ = ["ALWAYS", "NEVER", "LabelClock", "LabelOrder", "late_alone", "write_order"]

NEVER = np.iinfo(np.int64).max  # us; when an outcome is known that has no time
ALWAYS = np.iinfo(np.int64).min
COLUMNS = ("rows", "at", "late", "late_share")
SHARE_ROWS = 1024  # entries whose labels are weighted alike
CHUNK = 131_072  # rows looked at together


@dataclass(frozen=True)
class LabelClock:
    """The rules. window: us, None without one; late: what becomes of a positive after the window; positive_from: the
    least label that histories and counts show as positive.
    """

    window: int | None = None
    late: Literal["update", "weight", "ignore"] = "update"
    positive_from: float = 0.5

    @classmethod
    def of(cls, config: LabelsConfig) -> LabelClock:
        """Return the rules of an experiment."""
        return cls(None if config.window_s is None else int(config.window_s * 1e6), config.late)

    def learned_at(self, time: Array, labels: Array, known: Array) -> Array:
        """Return int64 us [n]: when each sample may be learned, given time [n], labels [n, K] and when each was
        known, [n, K].
        """
        if self.window is not None:
            return np.asarray(time + self.window)
        return np.asarray(np.where(np.isnan(labels), ALWAYS, known).max(1, initial=ALWAYS).clip(min=time))

    def first_labels(self, labels: Array, known: Array, at: Array) -> Array:
        """Return float32 [n, K]: what is learned of samples at `at` us [n], for the first time."""
        if self.window is None:
            return labels
        return np.where((labels == 1) & (known <= at[:, None]), np.float32(1), np.float32(0))

    def late_positives(self, time: Array, labels: Array, known: Array) -> Array:
        """Return bool [n, K]: which labels are positives that were known after their window only."""
        if self.window is None or self.late == "ignore":
            return np.zeros(labels.shape, bool)
        return np.asarray((labels == 1) & (known > time[:, None] + self.window) & (known < NEVER))

    def history_events(self, time: Array, label: Array, known: Array) -> tuple[Array, Array, Array]:
        """Return (sample int64 [m], known us [m], outcome uint8 [m]): what histories show of samples, given one task's
        labels [n]; a late positive is shown as well as the negative that its sample was taken for.
        """
        if self.window is None:
            of = np.flatnonzero(~np.isnan(label))
            return of, known[of], (label[of] >= self.positive_from).astype(np.uint8)
        end = time + self.window
        soon = (label == 1) & (known <= end)
        late = np.flatnonzero(self.late_positives(time, label[:, None], known[:, None])[:, 0])
        return (
            np.concatenate((np.arange(len(time)), late)),
            np.concatenate((np.where(soon, known, end), known[late])),
            np.concatenate((soon, np.ones(len(late)))).astype(np.uint8),
        )

    def counted(self, time: Array, label: Array, known: Array) -> tuple[Array, Array, Array]:
        """Return (sample int64 [m], known us [m], int32 [m, 2]: labels, positives that are added then) of the same
        events; a late positive adds no label, for its sample counts already.
        """
        of, since, outcome = self.history_events(time, label, known)
        first = np.arange(len(of)) < (len(of) if self.window is None else len(time))
        return of, since, np.stack((first, outcome), 1).astype(np.int32)

    def as_of(self, time: Array, labels: Array, known: Array, now: Array | int) -> tuple[Array, Array]:
        """Return (float32 [n, K] labels, bool [n]: whether a sample may be learned), as was known before `now` us."""
        at, before = self.learned_at(time, labels, known), np.broadcast_to(np.asarray(now) - 1, time.shape)
        counted = np.minimum(at, before) if self.late == "ignore" else before
        return self.first_labels(labels, known, counted), at <= before


def late_alone(labels: Array, late: Array | None) -> Array:
    """Return the labels [n, K] of entries, of which a late positive corrects its own task alone: NaN for the others.

    late: int16 [n], see `LabelOrder`; None where there are none.
    """
    if late is None:
        return labels
    others = (late >= 0)[:, None] & (late[:, None] != np.arange(labels.shape[1]))
    return np.where(others, np.float32(np.nan), labels)


@dataclass(frozen=True)
class LabelOrder:
    """Entries in the order in which they may be learned: rows int64 [Q], at int64 us [Q], late int16 [Q]: the task of a
    positive that came after its window, -1 for a sample that is learned for the first time. late_share: float32
    [Q / SHARE_ROWS + 1, K]: every SHARE_ROWS entries, which share of the positives before came late; empty where late
    positives have no weight.

    An entry may be learned before a sample is predicted whose time is later than `at`.
    """

    rows: Array
    at: Array
    late: Array
    late_share: Array

    @classmethod
    def open(cls, folder: Path) -> LabelOrder | None:
        """Return the order that `write_order` wrote, None where labels are known with their samples."""
        if not (folder / "order_rows.npy").exists():
            return None
        return cls(*(open_column(folder, f"order_{name}") for name in COLUMNS))

    def known_before(self, time: int) -> int:
        """Return how many entries may be learned before a sample of `time` us is predicted."""
        return int(np.searchsorted(self.at, time, side="left"))

    def late_share_at(self, entry: int) -> Array | None:
        """Return float32 [K]: which share of the positives came late, as of that entry; None without weights."""
        return np.asarray(self.late_share[entry // SHARE_ROWS]) if len(self.late_share) else None

    def of_rows_below(self, limit: int) -> int:
        """Return how many entries come before the first of a row that is not below `limit`."""
        return int(np.searchsorted(self._furthest, limit, side="left"))

    @cached_property
    def _furthest(self) -> Array:
        return np.asarray(np.maximum.accumulate(self.rows))


def write_order(folder: Path, clock: LabelClock, time: Array, labels: Array, known: Array) -> None:
    """Write the order of a log's samples as columns in `folder`, nothing where every label is known with its sample.

    time: int64 us [N]; labels: float32 [N, K]; known: int64 us [N, K]. Memory O(chunk): entries are sorted on disk
    where they are many.
    """
    parts = list(_parts(time, labels, known))
    if clock.window is None and all(bool((clock.learned_at(*part) <= part[0]).all()) for _, part in parts):
        return
    entries = len(time) + sum(int(clock.late_positives(*part).sum()) for _, part in parts)
    kinds = {"rows": "int64", "at": "int64", "late": "int16"}
    columns = {name: create_column(folder, f"order_{name}", (entries,), kind) for name, kind in kinds.items()}
    shares, done = _LateShares(labels.shape[1]) if clock.late == "weight" else None, 0
    for found in in_order(_entries(clock, parts), ["at", "rows", "late"], folder):
        for name, column in columns.items():
            column[done : done + len(found)] = found[name].to_numpy()
        if shares is not None:
            for part in found.iter_slices(CHUNK):
                shares.add(part)
        done += len(found)
    share = shares.all() if shares else np.zeros((0, labels.shape[1]))
    create_column(folder, "order_late_share", share.shape, "float32")[:] = share


class _LateShares:
    """Which share of the positives so far came late, every SHARE_ROWS entries, by task."""

    def __init__(self, tasks: int) -> None:
        self.tasks, self.entries = tasks, 0
        self.sums = np.zeros((2, tasks))  # late positives, positives
        self.counts = [np.zeros((1, 2, tasks))]

    def add(self, entries: pl.DataFrame) -> None:
        """Count the next entries, as `_entries` has them."""
        positive = entries.select(_positives(self.tasks)).to_numpy()
        of_task = entries["late"].to_numpy()[:, None] == np.arange(self.tasks)
        running = self.sums + np.stack((of_task, positive), 1).cumsum(0)
        self.counts.append(running[-(self.entries + 1) % SHARE_ROWS :: SHARE_ROWS])
        self.sums, self.entries = running[-1], self.entries + len(entries)

    def all(self) -> Array:
        """Return [Q / SHARE_ROWS + 1, K], see `LabelOrder`."""
        late, every = np.concatenate(self.counts).swapaxes(0, 1)
        return np.asarray(late / np.maximum(every, 1))


def _parts(*columns: Array) -> Iterator[tuple[int, tuple[Array, ...]]]:
    """Yield (first row, the columns' rows) of some samples at a time."""
    for low in range(0, max(len(columns[0]), 1), CHUNK):
        yield low, tuple(np.asarray(column[low : low + CHUNK]) for column in columns)


def _entries(clock: LabelClock, parts: Iterable[tuple[int, tuple[Array, ...]]]) -> Iterator[pl.DataFrame]:
    """Yield (rows, at, late, all int64; whether positive, by task) of some samples at a time: each once, then its late
    positives.
    """
    for low, part in parts:
        at = clock.learned_at(*part)
        of, task = np.nonzero(clock.late_positives(*part))
        first = clock.first_labels(part[1], part[2], at) == 1
        positive = np.concatenate((first, task[:, None] == np.arange(first.shape[1])))
        yield pl.DataFrame(
            {
                "rows": low + np.concatenate((np.arange(len(at)), of)),
                "at": np.concatenate((at, part[2][of, task])),
                "late": np.concatenate((np.full(len(at), -1), task)),
                **dict(zip(_positives(first.shape[1]), positive.T, strict=True)),
            }
        )


def _positives(tasks: int) -> list[str]:
    return [f"positive {task}" for task in range(tasks)]
