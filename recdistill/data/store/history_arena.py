"""Histories that grow: every user's events since the hand-over, in the order in which they became known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recdistill.data.store.chains import SIZE, Chains
from recdistill.data.store.history import Events
from recdistill.typing import Array

__all__ = ["HistoryArena"]


class HistoryArena(Chains):
    """Chains of events by user."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {"item": ((), "int32"), "time": ((), "int64"), "action": ((), "uint8")})

    def add(self, user: Array, item: Array, time: Array, known: Array, action: Array) -> None:
        """Append events, int arrays [n] in order of `known` us; see `append`."""
        self.append(user, known, {"item": item, "time": time, "action": action})

    def history_end(self, user: Array, time: Array) -> Array:
        """Return int64 [n]: how many events of each user were known strictly before `time` us."""
        return self.ends(user, time)[0]

    def gather(self, user: Array, start: Array, stop: Array, before: Events) -> Events:
        """Return per history the events of `before` (R of them), then those at [start, stop) of its user,
        oldest first.
        """
        had, new = np.diff(before.offsets), stop - start
        offsets = np.r_[0, np.cumsum(had + new)]
        out = Events(offsets, *(np.empty(offsets[-1], column.dtype) for column in before[1:]))
        old = np.arange(len(before.item)) + np.repeat(offsets[:-1] - before.offsets[:-1], had)
        for column, values in zip(out[1:], before[1:], strict=True):
            column[old] = values
        self._fill(out, offsets[:-1] + had - start, user, start, stop)
        return out

    def _fill(self, out: Events, first: Array, user: Array, start: Array, stop: Array) -> None:
        """Write event k of a user, start <= k < stop, to first + k, block by block from the newest."""
        row = np.flatnonzero(stop > start)
        if not len(row):
            return
        block, number = self.last[user[row]], (self.count[user[row]] - 1) // SIZE
        slots = np.arange(SIZE)
        while len(row):
            at = number[:, None] * SIZE + slots
            inside = (at >= start[row, None]) & (at < stop[row, None])
            target = (at + first[row, None])[inside]
            source = np.broadcast_to(block[:, None], at.shape)[inside], np.broadcast_to(slots, at.shape)[inside]
            for column, name in ((out.item, "item"), (out.time, "time"), (out.action, "action")):
                column[target] = self._columns[name][source]
            more = number * SIZE > start[row]
            row, block, number = row[more], self._columns["before"][block[more], 0], number[more] - 1
