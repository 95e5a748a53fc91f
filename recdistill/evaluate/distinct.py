"""How many different values there are, counted a chunk at a time in memory that does not grow with them."""

from __future__ import annotations

import numpy as np

from recdistill.data.sampling import mixed
from recdistill.typing import Array

__all__ = ["Distinct"]

LIMIT = 4_096  # smallest hashes; the estimate's standard error is 1 / sqrt(LIMIT), 1.6 %


class Distinct:
    """The smallest hashes of what was added (Bar-Yossef et al., RANDOM 2002): exact up to LIMIT different values,
    beyond that as many as make the LIMIT-th smallest hash as small as it is.
    """

    def __init__(self) -> None:
        self._smallest = np.zeros(0, np.uint64)

    def add(self, keys: Array) -> None:
        """Add values as integers of at most 64 bits [n]."""
        hashes = mixed(keys)
        if len(self._smallest) == LIMIT:
            hashes = hashes[hashes < self._smallest[-1]]
        if len(hashes):
            self._smallest = np.unique(np.concatenate((self._smallest, hashes)))[:LIMIT]

    def count(self) -> int:
        """Return the number of different values, an estimate above LIMIT."""
        if len(self._smallest) < LIMIT:
            return len(self._smallest)
        return round((LIMIT - 1) * 2.0**64 / (float(self._smallest[-1]) + 1))
