"""An embedding table of a bounded number of rows, for ids that never end.

An id gets a row once `admit` steps that learn have looked it up; until then it reads the padding, as ids never seen do.
Where there is no free row, the id seen longest ago gives its own: the row starts anew, and so does its optimiser's
state. Ids that wait for a row are counted in as many places as there are rows, and are forgotten by age likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recdistill.data.batch.moved import gathered
from recdistill.distributed.ranks import ALONE, Ranks, Rows
from recdistill.errors import UserError
from recdistill.models.embeddings.aged_ids import WAYS, AgedIds
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.typing import Array

__all__ = ["BoundedTable", "RowBudget", "Share"]

Share = Literal["never", "remainder", "quotient-remainder"]

COUNTS = ("admitted", "evicted", "refused")


@dataclass(frozen=True)
class RowBudget:
    """most: rows of each table; admit: how many steps have to look an id up before it gets one; share: how ids share
    rows instead, see `HashedTable` and `QuotientTable`; narrow: numbers that ids without one have, see `MixedTable`.
    """

    most: int
    admit: int = 1
    share: Share = "never"
    narrow: int = 0


class BoundedTable(GrowableTable):
    """A table of at most `budget.most` rows; a model uses it like the `table` it is made of, of which no row was looked
    up yet. admitted, evicted: rows that were given and taken back; refused: times that an id had to go without, as all
    ids that could have given way were looked up in the same step.

    ranks: where the table is spread over several, this one has the ids r of which r mod N is its number, and 1 / N of
    the places: those of whole remainders, so that what gives way is the same as in one table.
    """

    def __init__(self, table: GrowableTable, budget: RowBudget, ranks: Ranks = ALONE) -> None:
        super().__init__(table.width, **table.settings)
        self.budget, self.now, self.ranks = budget, 0, ranks
        self.held, self.waiting = self._nobody(), self._nobody()
        self.sightings = np.zeros(len(self.waiting.ids), np.int32)
        self.admitted = self.evicted = self.refused = 0
        self._allocate(len(self.held.ids) + 1)
        self._ready[:] = True

    def _nobody(self) -> AgedIds:
        return AgedIds(self.budget.most // self.ranks.size, self.ranks.size)

    def _rows(self, ids: Tensor) -> Tensor:
        """Return int64 [n], the row of each id, 0 where it has none."""
        return torch.from_numpy(self.held.find(ids.numpy()) + 1)

    def _met(self, ids: Tensor) -> Tensor:
        """Return the row of each of distinct ids that are learned from; those due get one, if need be another's."""
        asked = ids.numpy()
        places = self.held.find(asked)
        self.held.last[places[places >= 0]] = self.now
        new = np.flatnonzero((places < 0) & (asked != 0))
        due = new[self._due(asked[new])]
        given, evicted = self.held.take(asked[due], self.now)
        self.refused += int(np.count_nonzero(given < 0))
        due, given = due[given >= 0], given[given >= 0]
        self._start(torch.from_numpy(given + 1), torch.from_numpy(asked[due]))
        waited = self.waiting.find(asked[due])
        self.waiting.leave(waited[waited >= 0])
        self.admitted, self.evicted = self.admitted + len(due), self.evicted + evicted
        places[due] = given
        return torch.from_numpy(places + 1)

    def _due(self, ids: Array) -> Array:
        """Count a sighting of ids without a row, once a step; return bool [n], whose turn it is."""
        if self.budget.admit == 1:
            return np.ones(len(ids), np.bool_)
        places = self.waiting.find(ids)
        again = places[places >= 0]
        self.sightings[again] += self.waiting.last[again] < self.now
        self.waiting.last[again] = self.now
        fresh = np.flatnonzero(places < 0)
        given, _ = self.waiting.take(ids[fresh], self.now)
        places[fresh] = given
        self.sightings[given[given >= 0]] = 1
        return (places >= 0) & (self.sightings[places] >= self.budget.admit)

    def _start(self, rows: Tensor, ids: Tensor) -> None:
        self._weight[rows] = self._first_values(ids)
        for state in (self._first, self._second, self._steps):
            state[rows] = 0

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, see `GrowableTable`; only what is learned from counts as seen."""
        learns = self.training and torch.is_grad_enabled()
        places = self._met(unique) if learns else self._rows(unique)
        rows = gathered(self._weight, places, self.device)
        if learns:
            rows.requires_grad_()
            self._live.append((places, rows))
        return rows.to(self.device, non_blocking=True)

    def step(self) -> None:
        """Update every row looked up since the last step; those of ids without a row learn nothing."""
        live = [(rows, leaf.detach(), leaf.grad) for rows, leaf in self._live if leaf.grad is not None]
        self._live.clear()
        self.now += 1
        if live:
            there = [torch.cat((torch.zeros(1, dtype=torch.int64), rows.nonzero()[:, 0])) for rows, _, _ in live]
            own = [(rows[at], leaf[at], grad[at]) for (rows, leaf, grad), at in zip(live, there, strict=True)]
            rows, weight, gradient = own[0] if len(own) == 1 else self._summed(own)
            self._learn(rows[1:], weight[1:], gradient[1:])

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of the rows of ids, int64 [n], zeros for those without one."""
        return self._weight.index_select(0, self._rows(rows))

    def seen(self, count: int) -> Tensor:
        """Return int32 [count], how many steps learned from each of the first ids' rows, -1 for ids without one."""
        rows = self._rows(torch.arange(count))
        return self._steps.index_select(0, rows).masked_fill_(rows == 0, -1).index_fill_(0, torch.zeros(1).long(), 0)

    def freeze(self, rows: Tensor) -> None:
        """Raise UserError: a frozen row could be taken by another id."""
        raise UserError("rows that are bounded cannot be frozen; leave out rows, or what freezes them")

    def take_rows(self, rows: Tensor, values: Tensor) -> None:
        """Raise UserError: there need not be room for them."""
        raise UserError("rows that are bounded cannot be taken over from another table; leave out rows")

    def take_columns(self, other: GrowableTable, columns: Tensor, share: Tensor | None, zero: bool) -> None:
        """Raise UserError: its rows' own columns would change with those that give way."""
        raise UserError("rows that are bounded cannot change their width; leave out rows")

    def facts(self) -> dict[str, int]:
        """Return how many ids have a row, and what was counted so far."""
        return {"held": len(self.held)} | {name: int(getattr(self, name)) for name in COUNTS}

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the rows that ids have, `rows` int64 [n], whose they are, and of the ids that wait."""
        places, waits = np.flatnonzero(self.held.ids), np.flatnonzero(self.waiting.ids)
        rows = torch.from_numpy(places + 1)
        names = ("weight", "first", "second", "steps")
        found = {name: getattr(self, f"_{name}").index_select(0, rows) for name in names}
        arrays: dict[str, Array] = {"rows": self._of_whole(places) + 1, "waits": self._of_whole(waits)}
        arrays |= {"ids": self.held.ids[places], "last": self.held.last[places]}
        arrays |= {"waiting": self.waiting.ids[waits], "waiting_last": self.waiting.last[waits]}
        arrays |= {"sightings": self.sightings[waits]}
        arrays["clock"] = np.array([self.now, *(getattr(self, name) for name in COUNTS)], np.int64)
        return found | {name: torch.from_numpy(value) for name, value in arrays.items()}

    def load_state(self, state: Mapping[str, Rows]) -> None:
        """Load what is this rank's of a whole table's `state`; every other row is free."""
        self.clear()
        self._allocate(len(self.held.ids) + 1)
        self._ready[:] = True
        self.held, self.waiting = self._nobody(), self._nobody()
        self.sightings[:] = 0
        has, waits = (self.ranks.owns(state[name][...]) for name in ("ids", "waiting"))
        at = self._of_rank(state["rows"][...][has].numpy() - 1)
        for name in ("weight", "first", "second", "steps"):
            getattr(self, f"_{name}").index_copy_(0, torch.from_numpy(at + 1), state[name][...][has])
        self.held.ids[at], self.held.last[at] = (state[name][...][has].numpy() for name in ("ids", "last"))
        at = self._of_rank(state["waits"][...][waits].numpy())
        for into, name in ((self.waiting.ids, "waiting"), (self.waiting.last, "waiting_last")):
            into[at] = state[name][...][waits].numpy()
        self.sightings[at] = state["sightings"][...][waits].numpy()
        clocks = state["clock"][...].view(-1, 1 + len(COUNTS))  # one rank's after the other's
        self.now = int(clocks[:, 0].max())
        self.admitted, self.evicted, self.refused = (clocks[:, 1:].sum(0) * self.ranks.first).tolist()

    def _of_whole(self, places: Array) -> Array:
        """Return int64 [n], where these places lie among those of all ranks."""
        sets, ways = np.divmod(places, WAYS)
        return np.asarray(self.ranks.numbers(sets) * WAYS + ways)

    def _of_rank(self, places: Array) -> Array:
        """Return int64 [n], where this rank has these places of all ranks."""
        sets, ways = np.divmod(places, WAYS)
        return np.asarray(sets // self.ranks.size * WAYS + ways)
