"""Embedding tables of a bounded number of rows that ids share: by their remainder alone (the hashing trick,
0902.2206), or by remainder and quotient (1909.02107). Ids are numbered in the order in which they were met, so that
remainders are spread evenly, and the first ids, up to the number of rows, begin with a row each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.errors import UserError
from recdistill.models.embeddings.composed import ComposedTable
from recdistill.models.embeddings.growable import GrowableTable

__all__ = ["HashedTable", "QuotientTable", "shared_quotient", "shared_row"]

QUOTIENTS = 8  # one row in so many is a quotient's


def shared_row(ids: Tensor, most: int) -> Tensor:
    """Return int64 [n], from 1 to `most`, the row that each id reads; 0 for the padding."""
    return torch.where(ids == 0, 0, (ids - 1) % most + 1)


def shared_quotient(ids: Tensor, most: int, quotients: int) -> Tensor:
    """Return int64 [n], from 1 to `quotients`, which of the ids of one remainder each is; 0 for the padding."""
    return torch.where(ids == 0, 0, (ids - 1) // most % quotients + 1)


def _looked_up(table: GrowableTable, rows: Tensor) -> Tensor:
    """Return float32 [n, width] of `rows`, int64 [n], the padding first, of which several may be one."""
    distinct, place = torch.unique(rows, return_inverse=True)
    found: Tensor = table(distinct)
    return found.index_select(0, place)


class _SharedTable(ComposedTable):
    """What tables whose ids share `most` rows have in common."""

    def __init__(self, table: GrowableTable, most: int, parts: dict[str, GrowableTable]) -> None:
        super().__init__(table, parts)
        self.most = most

    def seen(self, count: int) -> Tensor:
        """Return int32 [count], how many steps learned from the rows of the first ids' remainders."""
        return self.parts[""].seen(self.most + 1).index_select(0, shared_row(torch.arange(count), self.most))

    def freeze(self, rows: Tensor) -> None:
        """Raise UserError: other ids learn from the same rows."""
        raise UserError("rows that ids share cannot be frozen; leave out rows, or what freezes them")

    def take_rows(self, rows: Tensor, values: Tensor) -> None:
        """Raise UserError: several ids would take one row."""
        raise UserError("rows that ids share cannot be taken over from another table; leave out rows")


class HashedTable(_SharedTable):
    """A table of at most `most` rows, of which an id reads that of its remainder. With as many rows as ids it is the
    table that it is made of.
    """

    def __init__(self, table: GrowableTable, most: int) -> None:
        super().__init__(table, most, {"": GrowableTable(table.width, **table.settings)})

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, see `GrowableTable`; several ids may have the same one."""
        return _looked_up(self.parts[""], shared_row(unique, self.most)).to(self.device)

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of the rows of ids, int64 [n]."""
        return self.parts[""].peek(shared_row(rows, self.most))

    def stored(self, rows: int) -> dict[str, tuple[GrowableTable, int]]:
        """Return the table of rows that ids share, and how many of those the first ids read."""
        return {"": (self.parts[""], min(rows, self.most + 1))}


class _QuotientRows(GrowableTable):
    """Rows that begin as ones, so that a product with them is what it was."""

    def _first_values(self, rows: Tensor) -> Tensor:
        return (rows > 0)[:, None].expand(-1, self.width).float()


class QuotientTable(_SharedTable):
    """A table of at most `rows` rows, an eighth of them for quotients: an id's row is that of its remainder times that
    of its quotient, number by number. So ids of one remainder begin alike and may part, up to 7/64 of `rows` squared.
    """

    def __init__(self, table: GrowableTable, rows: int) -> None:
        self.quotients = rows // QUOTIENTS
        own, times = (kind(table.width, **table.settings) for kind in (GrowableTable, _QuotientRows))
        super().__init__(table, rows - self.quotients, {"": own, "quotient": times})

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, see `GrowableTable`."""
        rows = _looked_up(self.parts[""], shared_row(unique, self.most))
        times = _looked_up(self.parts["quotient"], shared_quotient(unique, self.most, self.quotients))
        return (rows * times).to(self.device)

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of the rows of ids, int64 [n]."""
        times = self.parts["quotient"].peek(shared_quotient(rows, self.most, self.quotients))
        return self.parts[""].peek(shared_row(rows, self.most)) * times

    def stored(self, rows: int) -> dict[str, tuple[GrowableTable, int]]:
        """Return the tables of remainders and of quotients, and how many rows of each the first ids read."""
        ids = max(rows - 1, 1)
        most, quotients = min(ids, self.most), min(-(-ids // self.most), self.quotients)
        return {"": (self.parts[""], most + 1), "quotient": (self.parts["quotient"], quotients + 1)}
