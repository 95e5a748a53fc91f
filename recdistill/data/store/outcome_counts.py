"""Counts of outcomes by key: how many labels of a user's or an item's samples were known before a moment, and how many
of them were positive.

Each key's outcomes in the order in which they became known, with running sums; a count is one search. A label counts
from when it was known (see `LabelClock`), however the samples are ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from recdistill.data.store.grouped import create_grouped, entries_since, fill_grouped, first_not_below, slabs
from recdistill.data.store.memmap import open_column
from recdistill.typing import Array

__all__ = ["SIDES", "OutcomeCounts", "create_counts", "fill_counts"]

KINDS = {"sums": ((2,), "int32")}
SIDES = ("user", "item")  # whose outcomes are counted
Outcomes = Callable[[], Iterable[tuple[Array, Array, Array]]]


def create_counts(folder: Path, side: str, outcomes: Outcomes, keys: int) -> Array:
    """Make the columns of one side's counts, to be filled; return where each key's entries begin.

    outcomes: chunks of (key int [n] below `keys`, known int64 us [n], added int32 [n, 2]: labels and positives, as
    `LabelClock.counted` gives them), read here and by every `fill_counts`; memory O(chunk + keys).
    """
    return create_grouped(folder, f"{side}_counts_", KINDS, outcomes, keys)


def fill_counts(folder: Path, side: str, outcomes: Outcomes, low: int, high: int) -> None:
    """Write the counts of the keys [low, high), as `fill_grouped` does."""
    columns = fill_grouped(folder, f"{side}_counts_", KINDS, outcomes, low, high)
    _add_up(columns["sums"], columns["first"], low, high)


def _add_up(sums: Array, first: Array, low: int, high: int) -> None:
    """Let every row of `sums` [n, 2] of the keys [low, high) be the sum of its key's rows up to it, in place."""
    for part, owner in slabs(first, low, high):
        running = np.vstack((np.zeros((1, 2), np.int64), np.cumsum(sums[part], 0, dtype=np.int64)))
        sums[part] = running[1:] - running[first[owner] - part.start]


class OutcomeCounts:
    """The counts, memory-mapped: `known` int64 us and `sums` int32 [n, 2], up to each outcome, `first` per key."""

    def __init__(self, folder: Path, side: str) -> None:
        self.known, self.sums, self.first = (
            open_column(folder, f"{side}_counts_{name}") for name in ("known", "sums", "first")
        )

    def before(self, key: Array, time: Array) -> Array:
        """Return int32 [n, 2]: labels and positives of each key, int [n], known strictly before `time` us [n]."""
        if not len(self.known):
            return np.zeros((len(key), 2), np.int32)
        start = self.first[key]
        end = first_not_below(self.known, start, self.first[key + 1], time)
        return np.where((end > start)[:, None], self.sums[np.maximum(end - 1, 0)], 0)

    def since(self, time: int) -> Iterator[tuple[Array, Array, Array]]:
        """Yield (key, known us, added int32 [., 2]) of entries known at `time` us or later."""
        for at, key in entries_since(self.first, self.known, time):
            earlier = np.where((at > self.first[key])[:, None], self.sums[np.maximum(at - 1, 0)], 0)
            yield key, self.known[at], self.sums[at] - earlier
