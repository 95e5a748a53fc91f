"""Which ranks keep the rows of a column of ids, where row r belongs to rank r mod N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.distributed.ranks import Ranks
from recdistill.models.embeddings.modulo import Modulo

__all__ = ["Asked", "Route", "routes_of"]

Asked = tuple[Tensor, Modulo | None]  # a column, int64 [U] of distinct ids, and how they share rows, None: not at all


@dataclass(frozen=True)
class Route:
    """How a column's rows came to be asked for from the ranks that keep them. asked: the column; rows: int64 [R], the
    distinct rows that its ids read; place: int64 [U], which of these each id reads, None where that is its own; order:
    int64 [R], the rows by owner; mine, theirs: how many come from and go to each rank; given: int64, the owner's own
    rows that others (and itself) look up.
    """

    asked: Asked
    rows: Tensor
    place: Tensor | None
    order: Tensor
    mine: Sequence[int]
    theirs: Sequence[int]
    given: Tensor

    def by_id(self, values: Tensor) -> Tensor:
        """Return [U, ...], what is each id's, of what is each row's, [R, ...]."""
        return values if self.place is None else values.index_select(0, self.place)


def routes_of(columns: Sequence[Asked], ranks: Ranks) -> list[Route]:
    """Return the route of each column, in two messages; a call of all ranks together."""
    size, distinct = ranks.size, [_distinct(*column) for column in columns]
    owners = [rows % size for rows, _ in distinct]
    orders = [torch.argsort(owner, stable=True) for owner in owners]
    counts = torch.stack([torch.bincount(owner, minlength=size) for owner in owners])
    mine, theirs = counts.tolist(), ranks.counts(counts.T.contiguous()).T.tolist()
    numbers = [rows[order] // size for (rows, _), order in zip(distinct, orders, strict=True)]
    given = ranks.exchange_all(numbers, mine, theirs)
    parts = zip(columns, distinct, orders, mine, theirs, given, strict=True)
    return [Route(column, *of, *rest) for column, of, *rest in parts]


def _distinct(column: Tensor, modulo: Modulo | None) -> tuple[Tensor, Tensor | None]:
    """Return (the distinct rows that a column's ids read, which of these each id reads)."""
    return (column, None) if modulo is None else torch.unique(modulo.rows(column), return_inverse=True)
