"""Which ranks keep the rows of a column of ids, where row r belongs to rank r mod N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.distributed.ranks import Ranks

__all__ = ["Route", "routes_of"]


@dataclass(frozen=True)
class Route:
    """How the ids of a column came to the ranks that keep their rows. unique: int64 [U], the column; order: int64 [U],
    its ids by owner; mine, theirs: how many rows come from and go to each rank; asked: int64, the owner's own rows that
    others (and itself) look up.
    """

    unique: Tensor
    order: Tensor
    mine: Sequence[int]
    theirs: Sequence[int]
    asked: Tensor


def routes_of(columns: Sequence[Tensor], ranks: Ranks) -> list[Route]:
    """Return the route of each column, int64 [U] of distinct ids, in two messages; a call of all ranks together."""
    size = ranks.size
    owners = [unique % size for unique in columns]
    orders = [torch.argsort(owner, stable=True) for owner in owners]
    counts = torch.stack([torch.bincount(owner, minlength=size) for owner in owners])
    mine, theirs = counts.tolist(), ranks.counts(counts.T.contiguous()).T.tolist()
    ids = [unique[order] // size for unique, order in zip(columns, orders, strict=True)]
    asked = ranks.exchange_all(ids, mine, theirs)
    return [Route(*parts) for parts in zip(columns, orders, mine, theirs, asked, strict=True)]
