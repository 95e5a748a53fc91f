"""An embedding table whose rows are spread over ranks: row r belongs to rank r mod N, which alone keeps and learns it.

A lookup sends ids to their owners and rows back; a step sends gradients to the owners, which add them up. A row starts
as it would in one table, and the states of all ranks together are that of one table, so that a run may go on with
another number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recdistill.distributed.ranks import Ranks, Rows
from recdistill.models.embeddings.growable import GrowableTable, initial_rows, replace_tables

__all__ = ["ShardedTable", "spread_tables"]

PIECE = 1 << 16  # rows of a state that are read at once


@dataclass(frozen=True)
class _Lookup:
    """One lookup on its way: leaf [U, D] in the caller's order; order: by owner; mine, theirs: rows to and from each
    rank; asked: int64, the owner's own rows that others (and itself) looked up.
    """

    leaf: Tensor
    order: Tensor
    mine: Sequence[int]
    theirs: Sequence[int]
    asked: Tensor


class _Owned(GrowableTable):
    """The rows of one rank, by r // N."""

    def __init__(self, table: GrowableTable, ranks: Ranks) -> None:
        super().__init__(table.width, **table.settings)
        self.ranks = ranks

    def _first_values(self, rows: Tensor) -> Tensor:
        return initial_rows(self.seed, self.name, rows * self.ranks.size + self.ranks.rank, self.width, self.std)


class ShardedTable(GrowableTable):
    """A table spread over ranks; a model uses it like the `table` it is made of, whose rows were not looked up yet."""

    def __init__(self, table: GrowableTable, ranks: Ranks) -> None:
        super().__init__(table.width, **table.settings)
        self.ranks = ranks
        self._owned = (_Owned(table, ranks),)  # in a tuple, so that torch does not register it as a module
        self._lookups: list[_Lookup] = []

    @property
    def owned(self) -> GrowableTable:
        """Return the rows of this rank."""
        return self._owned[0]

    @property
    def touched(self) -> int:
        """Return how many rows have learned something, of those of this rank."""
        return self.owned.touched

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, int64 [U]; a call of all ranks together."""
        size = self.ranks.size
        owner = unique % size
        order = torch.argsort(owner, stable=True)
        counts = torch.bincount(owner, minlength=size)
        mine, theirs = counts.tolist(), self.ranks.counts(counts).tolist()
        asked = self.ranks.exchange(unique[order] // size, mine, theirs)
        rows = torch.empty(len(unique), self.width)
        rows[order] = self.ranks.exchange_floats(self.owned.peek(asked), theirs, mine)
        if self.training and torch.is_grad_enabled():
            rows.requires_grad_()
            self._lookups.append(_Lookup(rows, order, mine, theirs, asked))
        return rows.to(self.device)

    def gradients(self) -> list[Tensor]:
        """Return the gradients waiting for `step`."""
        return [one.leaf.grad for one in self._lookups if one.leaf.grad is not None]

    def clear(self) -> None:
        """Forget the lookups since the last step."""
        self._lookups.clear()

    def step(self) -> None:
        """Let every owner update its rows by the gradients of all ranks; a call of all ranks together."""
        rows, gradients = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, self.width)]
        for one in self._lookups:
            grad = torch.zeros_like(one.leaf) if one.leaf.grad is None else one.leaf.grad
            rows.append(one.asked)
            gradients.append(self.ranks.exchange_floats(grad[one.order], one.mine, one.theirs))
        self._lookups.clear()
        distinct, place = torch.unique(torch.cat(rows), return_inverse=True)
        summed = torch.zeros(len(distinct), self.width).index_add_(0, place, torch.cat(gradients))
        real = (
            (distinct != 0) if self.ranks.first else torch.ones_like(distinct, dtype=torch.bool)
        )  # padding does not learn
        self.owned.update(distinct[real], summed[real])

    def set_rate(self, rate: float, decay: float = 0.0) -> None:
        """Learn at another rate from the next step on; see `GrowableTable`."""
        self.rate, self.decay = rate, decay
        self.owned.set_rate(rate, decay)

    def freeze(self, rows: Tensor) -> None:
        """Let `rows`, int64, learn nothing from now on; each rank freezes its own."""
        mine = rows[rows % self.ranks.size == self.ranks.rank]
        self.owned.freeze(mine // self.ranks.size)

    def state(self) -> dict[str, Tensor]:
        """Return this rank's rows of the state, by their numbers in the whole table."""
        own = self.owned.state()
        return {**own, "rows": own["rows"] * self.ranks.size + self.ranks.rank}

    def load_state(self, state: Mapping[str, Rows]) -> None:
        """Load this rank's rows of a whole table's state, in any order; of other rows only the numbers are read."""
        self.clear()
        rows = state["rows"][...]
        mine = rows % self.ranks.size == self.ranks.rank
        own = {name: _chosen(values, mine) for name, values in state.items() if name != "rows"}
        self.owned.load_state({**own, "rows": rows[mine] // self.ranks.size})


def _chosen(values: Rows, which: Tensor) -> Tensor:
    """Return the rows where `which`, bool [n], is True, reading only the pieces that have any."""
    pieces = [slice(at, at + PIECE) for at in range(0, len(which), PIECE)]
    return torch.cat([values[:0], *(values[piece][which[piece]] for piece in pieces if which[piece].any())])


def spread_tables(module: nn.Module, ranks: Ranks) -> None:
    """Replace every table inside by one that is spread over `ranks`; alone, nothing changes."""
    if ranks.size > 1:
        replace_tables(module, lambda table: ShardedTable(table, ranks))
