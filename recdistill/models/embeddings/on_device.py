"""An embedding table whose rows and optimiser's state lie in the memory of the device that computes: nothing but the
numbers of a batch's rows travels. It starts, learns and is stored as the host's table is.

Several look-ups of a step may meet one row, and it moves once, by their sum: the last look-up that has a row owns it,
and the others add their gradients there, look-up by look-up, so that sums are always made in one order. Nothing waits
for the device on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recdistill.data.batch.moved import moved
from recdistill.distributed.ranks import Rows
from recdistill.errors import UserError
from recdistill.models.embeddings import fused_rows
from recdistill.models.embeddings.fused_rows import Moved, RowState
from recdistill.models.embeddings.growable import (
    BETA1,
    BETA2,
    EPSILON,
    MIN_CAPACITY,
    STATE,
    GrowableTable,
)

__all__ = ["DeviceTable", "bytes_of"]


class DeviceTable(GrowableTable):
    """A table on `home`; a model uses it like the `table` it is made of, of which no row was looked up yet."""

    def __init__(self, table: GrowableTable, home: torch.device) -> None:
        self.home, self._most_steps = home, 0
        self._sent: Sequence[tuple[Tensor, Tensor]] = ()
        super().__init__(table.width, **table.settings)
        self.device = home
        self.start_as(table.drawn)

    def _allocate(self, capacity: int) -> None:
        super()._allocate(capacity)
        self._lie(*STATE, "frozen", "place")

    def _lie(self, *names: str) -> None:
        """Let these tensors, zeros so far, lie on `home`."""
        for name in names:
            here = getattr(self, f"_{name}")
            setattr(self, f"_{name}", torch.zeros(here.shape, dtype=here.dtype, device=self.home))

    def _grow(self, rows: int) -> None:
        try:
            super()._grow(rows)
        except torch.OutOfMemoryError as full:
            raise UserError(
                f"table {self.name}: {rows:,} rows of width {self.width} and their optimiser's state do not fit the "
                "device's memory; set tables: host, and start again: the last checkpoint is taken up there"
            ) from full

    def _begin(self, rows: Tensor, values: Tensor) -> None:
        self._weight[rows.to(self.home)] = values.to(self.home)

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, int64 [U] on the host, distinct, unique[0] == 0, on `home`."""
        self._prepare(unique)
        at = self._there(unique)
        rows = self._weight.index_select(0, at)
        if self.training and torch.is_grad_enabled():
            rows.requires_grad_()
            self._live.append((at, rows))
        return rows

    def know(self, sent: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Have these ids, int64 [U] on the host and the same on `home`, for the look-ups of one step."""
        self._sent = sent

    def _there(self, unique: Tensor) -> Tensor:
        """Return ids on `home`: those that were sent ahead, or sent now."""
        found = next((there for here, there in self._sent if here is unique), None)
        return moved(unique, self.home) if found is None else found

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy on the host of `rows`, int64 [n], which may repeat."""
        self._prepare(rows)
        return self._weight.index_select(0, rows.to(self.home)).cpu()

    def freeze(self, rows: Tensor) -> None:
        """Let `rows`, int64, learn nothing from now on."""
        self._prepare(rows)
        self._frozen[rows.to(self.home)], self._freezes = True, True

    def take_rows(self, rows: Tensor, values: Tensor) -> None:
        """Let `rows`, int64 [n], distinct and none of them padding, be `values`, float32 [n, width]; see
        `GrowableTable`.
        """
        self._prepare(rows)
        at, zero = rows.to(self.home), torch.zeros((), device=self.home)
        self._weight.index_copy_(0, at, values.to(self.home))
        self._first.index_copy_(0, at, zero.expand(len(at), self._first.shape[1]))
        self._second.index_copy_(0, at, zero.expand(len(at), self._second.shape[1]))
        self._steps.index_fill_(0, at, 1)
        self._most_steps = max(self._most_steps, 1)

    def step(self) -> None:
        """Move every row looked up since the last step by its summed gradient, once; then forget the look-ups."""
        live = [(rows, leaf.grad) for rows, leaf in self._live if leaf.grad is not None]
        self._live.clear()
        if live:
            self._move(self._once(live))

    def update(self, rows: Tensor, gradient: Tensor) -> None:
        """Move `rows`, int64 [n], distinct and none of them padding, by their gradients [n, width], once."""
        at = rows.to(self.home)
        self._move(Moved(at, gradient.to(self.home), torch.ones_like(at, dtype=torch.bool)))

    def _once(self, live: list[tuple[Tensor, Tensor]]) -> Moved:
        """Return the entries of all look-ups, of which those that own their row have the sum; padding has none."""
        rows = torch.cat([rows for rows, _ in live])
        if len(live) == 1:
            return Moved(rows, live[0][1], rows != 0)
        numbers = torch.arange(len(rows), device=self.home)
        pieces = torch.split(numbers, [len(rows) for rows, _ in live])
        for (part, _), own in zip(live, pieces, strict=True):
            self._place.index_copy_(0, part, own)
        gradient = torch.zeros(len(rows), self.width, device=self.home)
        for part, pull in live:
            gradient.index_add_(0, self._place.index_select(0, part), pull)
        return Moved(rows, gradient, (self._place.index_select(0, rows) == numbers) & (rows != 0))

    def _move(self, moved: Moved) -> None:
        if not fused_rows.serves(self.home, self.width):
            rows, gradient = moved.rows[moved.wanted], moved.gradient[moved.wanted]
            self._learn(rows, self._weight.index_select(0, rows), gradient)
            return
        if self._freezes:
            moved = Moved(moved.rows, moved.gradient, moved.wanted & ~self._frozen.index_select(0, moved.rows))
        self.fused(moved)

    def fused(self, moved: Moved) -> None:
        """Move rows by the kernels."""
        state, keep = RowState(self._weight, self._first, self._second, self._steps), 1 - self.rate * self.decay
        self._most_steps += 1  # no row has had more, which is known without asking the device
        if self.optimiser == "adam":
            scale, epsilon = self._factors(self._most_steps)
            if scale.device != self.home:
                scale, epsilon = self._scale, self._epsilon = scale.to(self.home), epsilon.to(self.home)
            fused_rows.adam(state, moved, scale, epsilon, keep, (BETA1, BETA2))
        else:
            fused_rows.adagrad(state, moved, self.rate, EPSILON, keep)

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the host, of the rows that have learned or are frozen; see `GrowableTable`."""
        return {name: value.cpu() for name, value in super().state().items()}

    def load_state(self, state: Mapping[str, Rows]) -> None:
        """Load a `state`, its rows in any order; every other row is as new."""
        rows = state["rows"][...]
        self.clear()
        self._allocate(max(MIN_CAPACITY, int(rows.max()) + 1 if len(rows) else 0))
        at = rows.to(self.home)
        for name in STATE:
            getattr(self, f"_{name}").index_copy_(0, at, state[name][...].to(self.home))
        self._most_steps = int(state["steps"][...].max()) if len(rows) else 0
        self._freezes = "frozen" in state
        if self._freezes:
            self._frozen.index_copy_(0, at, state["frozen"][...].to(self.home))
        self._ready[rows] = True


def bytes_of(table: GrowableTable, rows: int) -> int:
    """Return what so many rows and their optimiser's state take."""
    numbers = 3 * table.width if table.optimiser == "adam" else table.width + 1
    return rows * (4 * numbers + 4 + 1 + 8)  # and its steps, whether it is frozen, and its place in a step
