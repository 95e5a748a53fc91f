"""Ids met before, and what is known of each: sorted runs that merge like a binary counter.

n ids cost O(n log n) to add, one at a time or all at once, and a look-up goes through O(log n) runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recdistill.typing import Array

__all__ = ["IdMap", "IdSet"]


@dataclass(frozen=True)
class _Run:
    """Ids, ascending, each once; the value of each; the largest mark that any of them came with."""

    ids: Array
    values: Array
    mark: int

    @classmethod
    def of(cls, ids: Array, values: Array, mark: int) -> _Run:
        order = np.argsort(ids, kind="stable")
        ids, values = ids[order], values[order]
        first = np.r_[True, ids[1:] != ids[:-1]]
        if not first.all():
            ids, values = ids[first], np.maximum.reduceat(values, np.flatnonzero(first))
        return cls(ids, values, mark)

    def places(self, ids: Array) -> tuple[Array, Array]:
        """Return (bool [n]: which of `ids` are here, int64 [n]: where)."""
        at = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        return self.ids[at] == ids, at


class IdMap:
    """64-bit ids with a value each: the largest that an id came with, within a run.

    max_merged: rows beyond which a run is merged into no later one, so that `forget` finds old runs by themselves.
    """

    def __init__(self, max_merged: int | None = None) -> None:
        self._max_merged = max_merged
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        """Return the number of ids; one that stands in several runs counts in each."""
        return sum(len(run.ids) for run in self._runs)

    def add(self, ids: Array, values: Array, mark: int = 0) -> None:
        """Add int64 or uint64 [n] ids with their values [n, ...]; `forget` goes by `mark`, which never falls."""
        if not len(ids):
            return
        while self._runs and self._merges(len(self._runs[-1].ids), len(ids)):
            before = self._runs.pop()
            ids, values = np.concatenate((before.ids, ids)), np.concatenate((before.values, values))
        self._runs.append(_Run.of(ids, values, mark))

    def _merges(self, before: int, new: int) -> bool:
        return before <= 2 * new and (self._max_merged is None or before <= self._max_merged)

    def find(self, ids: Array) -> Iterator[tuple[Array, Array]]:
        """Yield (int64 [m]: positions in `ids` of those that are there, their values [m, ...]), run by run, the oldest
        first.
        """
        for run in self._runs:
            found, at = run.places(ids)
            yield np.flatnonzero(found), run.values[at[found]]

    def holds(self, ids: Array) -> Array:
        """Return bool [n]: which of `ids` were added before."""
        found = np.zeros(len(ids), bool)
        for run in self._runs:
            found |= run.places(ids)[0]
        return found

    def forget(self, mark: int) -> None:
        """Drop the runs to which nothing was added after `mark`."""
        self._runs = [run for run in self._runs if run.mark > mark]


class IdSet:
    """A growing set of 64-bit integers, 8 bytes each."""

    def __init__(self) -> None:
        self._ids = IdMap()

    def add(self, ids: Array) -> None:
        """Add int64 or uint64 [n] ids."""
        self._ids.add(ids, np.zeros((len(ids), 0), bool))

    def holds(self, ids: Array) -> Array:
        """Return bool [n]: which of `ids` were added before."""
        return self._ids.holds(ids)
