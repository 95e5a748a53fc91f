"""An embedding table of a bounded number of rows that ids share: an id reads the row of its remainder (the hashing
trick, 0902.2206). Ids are numbered in the order in which they were met, so that remainders are spread evenly, and the
first ids, up to the number of rows, begin with a row each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable

__all__ = ["HashedTable", "shared_row"]


def shared_row(ids: Tensor, most: int) -> Tensor:
    """Return int64 [n], from 1 to `most`, the row that each id reads; 0 for the padding."""
    return torch.where(ids == 0, 0, (ids - 1) % most + 1)


class HashedTable(GrowableTable):
    """A table of at most `most` rows; a model uses it like the `table` it is made of, of which no row was looked up
    yet. With as many rows as ids it is that table.
    """

    def __init__(self, table: GrowableTable, most: int) -> None:
        super().__init__(table.width, **table.settings)
        self.most = most

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, see `GrowableTable`; several ids may have the same one."""
        rows, place = torch.unique(shared_row(unique, self.most), return_inverse=True)
        return super().forward(rows).index_select(0, place.to(self.device))

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of the rows of ids, int64 [n]."""
        return super().peek(shared_row(rows, self.most))

    def seen(self, count: int) -> Tensor:
        """Return int32 [count], how many steps learned from the rows of the first ids."""
        return super().seen(self.most + 1).index_select(0, shared_row(torch.arange(count), self.most))

    def freeze(self, rows: Tensor) -> None:
        """Raise UserError: other ids learn from the same rows."""
        raise UserError("rows that ids share cannot be frozen; leave out rows, or what freezes them")

    def take_rows(self, rows: Tensor, values: Tensor) -> None:
        """Raise UserError: several ids would take one row."""
        raise UserError("rows that ids share cannot be taken over from another table; leave out rows")
