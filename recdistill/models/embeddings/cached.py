"""An embedding table of the host of which the rows that are looked up often lie on the device that computes, with their
optimiser's state, and are moved there. A step brings the rows that it lacks, and those that give way are written back.

Rows give way as pages do by the clock algorithm: a hand goes round the places and takes those that were not looked up
since it came by; what the step looks up stays. So an answer takes time by what is missing, not by how much there is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recdistill.data.batch.moved import gathered, moved
from recdistill.distributed.ranks import Rows
from recdistill.models.embeddings.growable import STATE, GrowableTable
from recdistill.models.embeddings.on_device import DeviceTable
from recdistill.typing import Array

__all__ = ["CachedTable"]

LOOKED_AT = 4096  # places that the hand passes at once, or four for each that is wanted


class CachedTable(DeviceTable):
    """A table of the host with `most` places on `home`, more where one step looks up more; a model uses it like the
    `table` it is made of, of which no row was looked up yet. brought: rows that had to be brought so far.

    _slot: int64 by id, its place, 0 for none; _held: int64 by place, the id there, 0 for none; place 0 is padding's.
    """

    def __init__(self, table: GrowableTable, home: torch.device, most: int) -> None:
        super().__init__(table, home)
        host = GrowableTable(table.width, **table.settings)
        host.start_as(table.drawn)
        self._hosts = (host,)  # in a tuple, so that torch does not register it as a module
        self._begin_with(max(most, 1) + 1)

    def _begin_with(self, places: int) -> None:
        """Hold nothing, in so many places."""
        self._allocate(places)
        self._slot, self._held = np.zeros(1, np.int64), np.zeros(places, np.int64)
        self._used, self._again = np.zeros(places, np.int64), np.zeros(places, np.bool_)
        self._now = self._hand = self.brought = 0

    @property
    def places(self) -> int:
        """Return how many rows the device has room for."""
        return len(self._held) - 1

    @property
    def host(self) -> GrowableTable:
        """Return the table of all rows, of which those on the device may have moved since they were brought."""
        return self._hosts[0]

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, int64 [U] on the host, distinct, unique[0] == 0, on `home`."""
        at = moved(self._places(unique), self.home)
        rows = self._weight.index_select(0, at)
        if self.training and torch.is_grad_enabled():
            rows.requires_grad_()
            self._live.append((at, rows))
        return rows

    def _places(self, ids: Tensor) -> Tensor:
        """Return int64 [n], where these rows lie on the device; those that lack are brought."""
        if not self._live:
            self._now += 1  # whose rows must stay until they have moved
        self.host._prepare(ids)
        wanted = ids.numpy()
        if len(self.host._ready) > len(self._slot):
            self._slot = np.concatenate([self._slot, np.zeros(len(self.host._ready) - len(self._slot), np.int64)])
        found = self._slot[wanted]
        self._used[found], self._again[found] = self._now, True
        missing = wanted[(self._slot[wanted] == 0) & (wanted != 0)]
        if len(missing):
            self._bring(missing)
        return torch.from_numpy(self._slot[wanted])

    def _bring(self, ids: Array) -> None:
        places = self._given_up(len(ids))
        self._write_back(places)
        self._slot[self._held[places]] = 0
        self._held[places], self._slot[ids] = ids, places
        self.brought += len(ids)
        rows, at = torch.from_numpy(ids), moved(torch.from_numpy(places), self.home)
        for name in (*STATE, "frozen"):
            here = gathered(getattr(self.host, f"_{name}"), rows, self.home)
            getattr(self, f"_{name}").index_copy_(0, at, moved(here, self.home))

    def _given_up(self, count: int) -> Array:
        """Return int64 [count] places for other rows; where this step has looked up nearly all, there are more."""
        found: list[Array] = []
        passed, total = 0, self.places
        while count:
            if passed > 2 * total:
                total, passed = self._more(count), 0
            window = (self._hand + np.arange(min(max(LOOKED_AT, 4 * count), total))) % total + 1
            takes = window[~self._again[window] & (self._used[window] < self._now)][:count]
            if len(takes) == count:  # the hand stops behind the last one
                window = window[: int(np.flatnonzero(window == takes[-1])[0]) + 1]
            self._again[window] = False
            self._hand, passed, count = (self._hand + len(window)) % total, passed + len(window), count - len(takes)
            self._used[takes] = self._now
            found.append(takes)
        return np.concatenate(found)

    def _more(self, count: int) -> int:
        """Make room for so many rows more, at least as much as there is; return the places but padding's."""
        self._grow(len(self._held) + count)
        for name in ("_held", "_used", "_again"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(len(self._ready) - len(old), old.dtype)]))
        return self.places

    def _write_back(self, places: Array) -> None:
        """Write the rows at these places, where there are some, to the host."""
        places = places[self._held[places] != 0]
        if len(places):
            ids, at = torch.from_numpy(self._held[places]), torch.from_numpy(places).to(self.home)
            for name in STATE:
                getattr(self.host, f"_{name}").index_copy_(0, ids, getattr(self, f"_{name}").index_select(0, at).cpu())

    def _whole(self) -> GrowableTable:
        """Return the host's table with every row as it is by now."""
        self._write_back(np.flatnonzero(self._held))
        return self.host

    def _alone(self) -> GrowableTable:
        """Return the same, with nothing left on the device."""
        host = self._whole()
        self.clear()
        self._begin_with(len(self._held))
        return host

    def update(self, rows: Tensor, gradient: Tensor) -> None:
        """Move `rows`, int64 [n], distinct and none of them padding, by their gradients [n, width], once."""
        super().update(self._places(rows), gradient)

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy on the host of `rows`, int64 [n], which may repeat."""
        known = rows[rows < len(self._slot)].numpy()
        self._write_back(np.unique(self._slot[known]))
        return self.host.peek(rows)

    @property
    def touched(self) -> int:
        """Return how many rows have learned something."""
        return self._whole().touched

    def seen(self, count: int) -> Tensor:
        """Return int32 [count], how many steps learned from each of the first rows, -1 where an id has none."""
        return self._whole().seen(count)

    def freeze(self, rows: Tensor) -> None:
        """Let `rows`, int64, learn nothing from now on."""
        self._alone().freeze(rows)
        self._freezes = True

    def thaw(self) -> None:
        """Let every row learn again."""
        self._alone().thaw()
        self._freezes = False

    def take_rows(self, rows: Tensor, values: Tensor) -> None:
        """Let `rows`, int64 [n], distinct and none of them padding, be `values`; see `GrowableTable`."""
        self._alone().take_rows(rows, values)
        self._most_steps = max(self._most_steps, 1)

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the host, of the rows that have learned or are frozen; see `GrowableTable`."""
        return self._whole().state()

    def load_state(self, state: Mapping[str, Rows]) -> None:
        """Load a `state`, its rows in any order; every other row is as new."""
        self.clear()
        self._begin_with(len(self._held))
        self.host.load_state(state)
        self._most_steps = int(state["steps"][...].max()) if len(state["rows"][...]) else 0
        self._freezes = "frozen" in state
