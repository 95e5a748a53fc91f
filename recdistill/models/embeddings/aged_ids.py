"""A bounded set of ids in which the ids seen longest ago give way to new ones, as the lines of a processor's cache do.

An id may stand in one of WAYS places, those of its remainder: a look-up reads WAYS numbers whatever the size, and the
oldest of these WAYS ids gives way, not the oldest of all. Ids are numbered in the order in which they were met, so that
their remainders are spread evenly.
"""

from __future__ import annotations

import numpy as np

from recdistill.typing import Array

__all__ = ["WAYS", "AgedIds"]

WAYS = 8  # places of a remainder
NOWHERE, NEVER = -1, -1


class AgedIds:
    """At most `most` ids, whole numbers from 1, each at a place from 0 to most - 1 for as long as it is there. What a
    place holds besides the id is the caller's. every: of ids that differ by multiples of it.

    ids: int64 [places], 0 where none is; last: int64 [places], when the id was seen last, -1 where none is.
    """

    def __init__(self, most: int, every: int = 1) -> None:
        self.sets, self.every = max(most // WAYS, 1), every
        self.ids = np.zeros(self.sets * WAYS, np.int64)
        self.last = np.full(self.sets * WAYS, NEVER, np.int64)

    def __len__(self) -> int:
        """Return how many ids are there."""
        return int(np.count_nonzero(self.ids))

    def find(self, ids: Array) -> Array:
        """Return int64 [n], the place of each id, -1 where it is not there."""
        of = ids // self.every % self.sets
        there = (self.ids.reshape(self.sets, WAYS)[of] == ids[:, None]) & (ids[:, None] != 0)
        return np.where(there.any(1), of * WAYS + there.argmax(1), NOWHERE)

    def take(self, ids: Array, now: int) -> tuple[Array, int]:
        """Give places to ids that are not there, distinct; return (int64 [n] the places, -1 where every id of its
        remainder was seen `now` too; how many ids gave way).
        """
        found, gave_way, of = np.full(len(ids), NOWHERE, np.int64), 0, ids // self.every % self.sets
        order = np.argsort(of, kind="stable")
        first = np.flatnonzero(np.diff(of[order], prepend=NOWHERE))
        turn = np.arange(len(ids)) - np.repeat(first, np.diff(first, append=len(ids)))  # one of a remainder at a time
        for at in range(min(int(turn.max(initial=NOWHERE)) + 1, WAYS)):
            asks = order[turn == at]
            last = self.last.reshape(self.sets, WAYS)[of[asks]]
            oldest = last.argmin(1)
            gives = last[np.arange(len(asks)), oldest] < now
            asks, places = asks[gives], of[asks[gives]] * WAYS + oldest[gives]
            gave_way += int(np.count_nonzero(self.ids[places]))
            self.ids[places], self.last[places], found[asks] = ids[asks], now, places
        return found, gave_way

    def leave(self, places: Array) -> None:
        """Let the ids at these places go."""
        self.ids[places], self.last[places] = 0, NEVER
