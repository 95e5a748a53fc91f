"""Counts of what was known before: per row, how many earlier outcomes its user or item had, and how many positive."""

from __future__ import annotations

import numpy as np

from recdistill.data.store.grouped import first_not_below
from recdistill.typing import Array

__all__ = ["earlier_counts"]


def earlier_counts(key: Array, time: Array, counted: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    """Return float64 [N] each: labels and positives of the row's key that were known strictly before its time.

    key: int [N] from 0; time: int64 [N]; counted: as `LabelClock.counted` gives it. A label known at the very time of a
    row is not earlier. Memory O(N), time O(N log N).
    """
    of, since, added = counted
    owner = key[of]
    order = np.lexsort((since, owner))
    first = np.searchsorted(owner[order], np.arange(int(key.max(initial=-1)) + 2))
    sums = np.vstack((np.zeros((1, 2)), np.cumsum(added[order], 0, dtype=np.float64)))
    low = first[key]
    end = first_not_below(since[order], low, first[key + 1], time)
    labels, positives = (sums[end] - sums[low]).T
    return labels, positives
