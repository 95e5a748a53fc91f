"""What a store keeps by user and by item, and looks up there for every sample, by several workers.

    plan      users and items in ranges of about as many entries; then the samples in ranges
    part      the histories or counts of a range, written into its rows of the columns, whatever is there; then what
              the samples of a range find there
    commit    the store's: it gets its name when all is written

Every value has one place, so the columns are the same to the bit however many work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recdistill.data.store.grouped import create_grouped, fill_grouped, shares
from recdistill.data.store.history import KINDS, PREFIX, HistoryStore
from recdistill.data.store.label_order import LabelClock
from recdistill.data.store.memmap import create_column, open_column, writable_column
from recdistill.data.store.outcome_counts import SIDES, OutcomeCounts, create_counts, fill_counts
from recdistill.typing import Array
from recdistill.workers.parts import Workers, in_parts

__all__ = ["Samples", "file_system", "write_groups", "write_looked_up", "writers"]

CHUNK = 131_072  # rows looked at together
HISTORIES = "histories"
APART = ("nfs", "cifs", "smb", "9p", "fuse")  # file systems where each machine has pages of its own


@dataclass(frozen=True)
class Samples:
    """The columns of samples in `folder`, and when their labels count."""

    folder: Path
    clock: LabelClock

    def _columns(self, *names: str) -> Iterator[tuple[Array, ...]]:
        columns = [open_column(self.folder, name) for name in names]
        for at in range(0, len(columns[0]), CHUNK):
            yield tuple(column[at : at + CHUNK] for column in columns)

    def events(self) -> Iterator[tuple[Array, ...]]:
        """Yield (user, known us, item, time us, action): samples as history events, by the first task's outcome."""
        for user, item, time, known, labels in self._columns("user", "item", "time", "known", "labels"):
            of, since, action = self.clock.history_events(time, labels[:, 0], known[:, 0])
            yield user[of], since, item[of], time[of], action

    def outcomes(self, side: str) -> Iterator[tuple[Array, Array, Array]]:
        """Yield (user or item, known us, added int32 [n, 2]) of outcomes; a log without users has none of theirs."""
        for key, time, known, labels in self._columns(side, "time", "known", "labels"):
            of, since, added = self.clock.counted(time, labels[:, 0], known[:, 0])
            owner = key[of]
            there = owner > 0
            yield owner[there], since[there], added[there]


@dataclass(frozen=True)
class _Range:
    """Keys or rows [low, high). of: HISTORIES or one of SIDES, whose keys they are; '' for rows."""

    of: str
    low: int
    high: int

    def __str__(self) -> str:
        """Return its name in messages."""
        return f"store, {self.of or 'samples'} {self.low:,} to {self.high:,}"


def file_system(folder: Path, mounts: str) -> str:
    """Return the type of the file system that a folder lies on, by the lines of /proc/mounts; "" for none."""
    found = [(len(at), kind) for _, at, kind, *_ in map(str.split, mounts.splitlines()) if folder.is_relative_to(at)]
    return max(found, default=(0, ""))[1]


def writers(workers: Workers, folder: Path) -> Workers:
    """Return who may write a store in `folder`: where memory maps of several machines undo each other's pages,
    processes of this machine.
    """
    mounts = Path("/proc/mounts")
    kind = file_system(folder.resolve(), mounts.read_text(encoding="utf-8")) if mounts.exists() else ""
    apart = workers.engine == "ray" and kind.startswith(APART)
    return Workers(min(workers.count, os.cpu_count() or 1)) if apart else workers


def _fill(samples: Samples, part: _Range) -> None:
    if part.of == HISTORIES:
        fill_grouped(samples.folder, PREFIX, KINDS, samples.events, part.low, part.high)
    else:
        fill_counts(samples.folder, part.of, partial(samples.outcomes, part.of), part.low, part.high)


def write_groups(samples: Samples, sizes: dict[str, int], histories: bool, workers: Workers) -> None:
    """Write the counts of outcomes, and the histories where those are of the samples; sizes: keys by side."""
    first = {side: create_counts(samples.folder, side, partial(samples.outcomes, side), sizes[side]) for side in SIDES}
    if histories:
        first[HISTORIES] = create_grouped(samples.folder, PREFIX, KINDS, samples.events, sizes["user"])
    parts = [_Range(of, *part) for of, starts in first.items() for part in shares(starts, workers.count)]
    for _ in in_parts(partial(_fill, samples), parts, workers):
        continue


def _look_up(samples: Samples, part: _Range) -> None:
    """Write the end of each sample's history, and the counts of its user and its item as of its time."""
    folder, histories = samples.folder, HistoryStore(samples.folder)
    ends, counts = writable_column(folder, "history_end"), writable_column(folder, "counts")
    of_side = {side: OutcomeCounts(folder, side) for side in SIDES}
    keys, time = {side: open_column(folder, side) for side in SIDES}, open_column(folder, "time")
    for at in range(part.low, part.high, CHUNK):
        rows = slice(at, min(at + CHUNK, part.high))
        ends[rows] = histories.known_before(keys["user"][rows], time[rows])
        for number, side in enumerate(SIDES):
            counts[rows, 2 * number : 2 * number + 2] = of_side[side].before(keys[side][rows], time[rows])


def write_looked_up(samples: Samples, rows: int, workers: Workers) -> None:
    """Write what each of so many samples finds in the histories and the counts."""
    create_column(samples.folder, "history_end", (rows,), "int64")
    create_column(samples.folder, "counts", (rows, 2 * len(SIDES)), "int32")
    size = max(-(-rows // (workers.count * CHUNK)), 1) * CHUNK  # whole chunks
    parts = [_Range("", low, min(low + size, rows)) for low in range(0, rows, size)]
    for _ in in_parts(partial(_look_up, samples), parts, workers):
        continue
