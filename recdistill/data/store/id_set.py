"""Which 64-bit keys were met before: sorted runs that merge like a binary counter, so that n keys cost O(n log n)."""

from __future__ import annotations

import numpy as np

from recdistill.typing import Array

__all__ = ["Seen"]


class Seen:
    """A growing set of 64-bit integers, 8 bytes each."""

    def __init__(self) -> None:
        self._runs: list[Array] = []

    def add(self, keys: Array) -> None:
        """Add int64 or uint64 [n] keys."""
        run = np.sort(keys)
        if not len(run):
            return
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate((self._runs.pop(), run)), kind="stable")
        self._runs.append(run)

    def holds(self, keys: Array) -> Array:
        """Return bool [n]: which of `keys` were added before."""
        found = np.zeros(len(keys), bool)
        for run in self._runs:
            found |= run[np.searchsorted(run, keys).clip(max=len(run) - 1)] == keys
        return found
