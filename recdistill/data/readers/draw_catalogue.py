"""The items of a log so far and how often each was chosen, for draws in proportion to (times chosen)^power.

Within a block of rows the weights grow with every event. A draw is exact all the same: the weights at the block's start
and what each of its events adds to them lie end to end on a line, of which the first `total` belong to a row.

    |  item 0  | item 1 |   item 2   | event 0 | event 1 | ...      x = uniform * total of the row

Blocks must not depend on how a log is cut, for the same x lies on another item where a block starts elsewhere.
"""

from __future__ import annotations

import numpy as np

from recdistill.data.store.id_set import IdMap
from recdistill.typing import Array

__all__ = ["Catalogue"]


class Catalogue:
    """Items by code, in the order in which they first stand in the log. power 0: every item that was chosen weighs 1.

    code: int64 [n], of the open block's rows; total: float64 [n], the weights of all items strictly before each row;
    hashes: uint64 [D]. Memory: 32 bytes per item, and twice 8 per item while a block is open.
    """

    def __init__(self, power: float) -> None:
        self.power = power
        self.hashes, self.chosen = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self.code, self.total = np.zeros(0, np.int64), np.zeros(0)
        self._known = IdMap()

    def open(self, item: Array, time: Array) -> Array:
        """Take a block's items uint64 [n] and times us [n], ascending; return the rows in which items are new."""
        distinct, first, inverse = np.unique(item, return_index=True, return_inverse=True)
        code = self.codes(distinct)
        new = np.flatnonzero(code < 0)
        new = new[np.argsort(first[new])]
        self.before = len(self.hashes)
        code[new] = self.before + np.arange(len(new))
        self._known.add(distinct[new], code[new])
        self.hashes, self.chosen = np.r_[self.hashes, distinct[new]], np.r_[self.chosen, np.zeros(len(new), np.int64)]
        self.code, self.high = code[inverse], np.searchsorted(time, time)
        self.size = len(item) + 1
        order = np.argsort(self.code, kind="stable")
        self.keys = self.code[order] * self.size + order
        start = np.searchsorted(self.code[order], self.code[order])
        earlier = np.zeros(len(item), np.int64)
        earlier[order] = np.arange(len(item)) - start
        so_far = self.chosen[self.code] + earlier
        self.base = np.cumsum(self._weight(self.chosen[: self.before]))
        self.added = np.cumsum(self._weight(so_far + 1) - self._weight(so_far))
        self.at_start = self.base[-1] if self.before else 0.0
        self.total = self.at_start + np.r_[0.0, self.added][self.high]
        return np.asarray(first[new])

    def codes(self, item: Array) -> Array:
        """Return int64 [m]: the code of each item's hash, -1 for one that never was."""
        code = np.full(len(item), -1)
        for at, values in self._known.find(item):
            code[at] = values
        return code

    def _weight(self, chosen: Array) -> Array:
        return np.asarray((chosen > 0).astype(np.float64) if not self.power else chosen**self.power)

    def draw(self, rows: Array, uniform: Array) -> Array:
        """Return int64 [m]: the code of an item for each of `rows`, whose total is not 0, by numbers in [0, 1)."""
        x = uniform * self.total[rows]
        old = np.searchsorted(self.base, x, side="right")
        event = np.searchsorted(self.added, x - self.at_start, side="right")
        event = np.minimum(event, self.high[rows] - 1).clip(0)  # x may be rounded up to the end of the line
        return np.asarray(np.where(x < self.at_start, np.minimum(old, max(self.before - 1, 0)), self.code[event]))

    def last(self, rows: Array, code: Array) -> Array:
        """Return int64 [m]: the last row of the block strictly before each of `rows` that has the item; -1 for none."""
        at = np.searchsorted(self.keys, code * self.size + self.high[rows]) - 1
        key = self.keys[at.clip(0)]
        return np.asarray(np.where((at >= 0) & (key >= code * self.size), key - code * self.size, -1))

    def log_q(self, rows: Array, code: Array) -> Array:
        """Return float64 [m]: the logarithm of the share that the item has in the weights at each of `rows`; -inf
        for none.
        """
        low = np.searchsorted(self.keys, code * self.size)
        here = np.searchsorted(self.keys, code * self.size + self.high[rows]) - low
        weight, total = self._weight(self.chosen[code] + here), self.total[rows]
        with np.errstate(divide="ignore"):
            return np.log(weight / np.where(total > 0, total, 1.0))

    def close(self) -> None:
        """Count the block's events into what later blocks start from."""
        self.chosen += np.bincount(self.code, minlength=len(self.chosen))
