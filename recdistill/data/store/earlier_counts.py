"""Counts of what was known before: per row, how many earlier outcomes its user or item had, and how many positive."""

from __future__ import annotations

import numpy as np

from recdistill.data.store.grouped import first_not_below
from recdistill.typing import Array

__all__ = ["earlier_counts"]


def earlier_counts(key: Array, time: Array, known: Array, label: Array) -> tuple[Array, Array]:
    """Return (float64 [N] labels of the row's key known strictly before its time, float64 [N] their sum).

    key: int [N] from 0; time: int64 [N]; known: int64 [N], when a row's label was known; label: float [N], NaN without
    one. A label known at the very time of a row is not earlier. Memory O(N), time O(N log N).
    """
    labelled = np.flatnonzero(~np.isnan(label))
    order = labelled[np.lexsort((known[labelled], key[labelled]))]
    first = np.searchsorted(key[order], np.arange(int(key.max(initial=-1)) + 2))
    sums = np.r_[0.0, np.cumsum(label[order], dtype=np.float64)]
    low = first[key]
    end = first_not_below(known[order], low, first[key + 1], time)
    return (end - low).astype(np.float64), sums[end] - sums[low]
