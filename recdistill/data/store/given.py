"""Sequences that rows bring, jagged: what an encoder makes of a chunk, and columns of it that lie in files.

A row's sequence is a span of two columns, the items and their times; a row whose list is that of the row before it, as
in one request, shares the span.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recdistill.data.store.history import Events
from recdistill.data.store.row_queue import RowQueue
from recdistill.typing import Array

__all__ = ["Given", "GivenFile", "GivenWriter", "LiveGiven", "as_before", "newest", "shared", "without"]

KINDS: dict[str, Any] = {"item": np.dtype(np.int32), "time": np.dtype(np.int64)}


class Given(NamedTuple):
    """Sequences of n rows, side by side, oldest first: offsets int64 [n + 1]; item int32 [T]; time int64 us [T], the
    row's own where the sequence has no times.
    """

    offsets: Array
    item: Array
    time: Array


def as_before(offsets: Array, *columns: Array) -> Array:
    """Return bool [n]: whether a row's entries, in all `columns` [T], are those of the row before it."""
    lengths = np.diff(offsets)
    alike = np.zeros(len(lengths), bool)
    alike[1:] = lengths[1:] == lengths[:-1]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    at = np.flatnonzero(alike[owner])
    back = at - lengths[owner[at]]
    for column in columns:
        alike[owner[at[column[at] != column[back]]]] = False
    return alike


def shared(given: Given, start: int) -> tuple[Array, Given]:
    """Return (int64 [n, 2]: each row's span of the entries that stay, the first of which is number `start`, those
    entries): a row that is as the one before it shares its span.
    """
    own = ~as_before(*given)
    lengths = np.diff(given.offsets)
    kept = np.repeat(own, lengths)
    ends = start + np.cumsum(np.where(own, lengths, 0))
    spans = np.stack((ends - lengths, ends), 1)
    entries = Given(np.r_[0, np.cumsum(lengths[own])], given.item[kept], given.time[kept])
    return spans, entries


def newest(spans: Array, length: int, item: Array, time: Array) -> Events:
    """Return the last `length` entries of spans, int64 [R, 2], of the columns `item` and `time`."""
    stop = spans[:, 1]
    start = np.maximum(spans[:, 0], stop - length)
    lengths = stop - start
    offsets = np.r_[0, np.cumsum(lengths)]
    at = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
    return Events(offsets, item[at], time[at], np.zeros(len(at), np.uint8))


def without(events: Events, left_out: Array) -> Events:
    """Return the histories that are not left out, bool [R]."""
    lengths = np.diff(events.offsets)
    kept = np.repeat(~left_out, lengths)
    offsets = np.r_[0, np.cumsum(lengths[~left_out])]
    return Events(offsets, events.item[kept], events.time[kept], events.action[kept])


class GivenWriter:
    """Appends the entries of one sequence to its files, a chunk at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        self.paths = {column: folder / f"given_{name}_{column}.bin" for column in KINDS}
        self.entries = 0
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.paths.values():
            path.touch()

    def append(self, given: Given) -> Array:
        """Write the entries; return int64 [n, 2], the rows' spans."""
        spans, kept = shared(given, self.entries)
        for column, path in self.paths.items():
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(getattr(kept, column), KINDS[column]).tobytes())
        self.entries += len(kept.item)
        return spans


class GivenFile:
    """What a `GivenWriter` wrote, memory-mapped; spans: int64 [N, 2] of the store's rows."""

    def __init__(self, folder: Path, name: str, spans: Array) -> None:
        self.spans = spans
        self.item, self.time = (_mapped(folder / f"given_{name}_{column}.bin", kind) for column, kind in KINDS.items())

    def newest(self, rows: Array, length: int) -> Events:
        """Return the last `length` entries of the sequences of `rows`."""
        return newest(self.spans[rows], length, self.item, self.time)


class LiveGiven:
    """The entries of one sequence of waiting rows; spans count all that ever came."""

    def __init__(self) -> None:
        self.entries = RowQueue()

    def append(self, given: Given) -> Array:
        """Append the entries; return int64 [n, 2], the rows' spans."""
        spans, kept = shared(given, self.entries.first + len(self.entries))
        self.entries.append({"item": kept.item.astype(np.int32), "time": kept.time})
        return spans

    def drop(self, first: int) -> None:
        """Drop the entries before number `first`."""
        self.entries.drop(first - self.entries.first)

    def newest(self, spans: Array, length: int) -> Events:
        """Return the last `length` entries of spans, int64 [R, 2]."""
        return newest(spans - self.entries.first, length, self.entries["item"], self.entries["time"])


def _mapped(path: Path, kind: np.dtype[Any]) -> Array:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
