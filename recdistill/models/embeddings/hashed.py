"""Embedding tables of a bounded number of rows that ids share: by their remainder alone (the hashing trick,
0902.2206), or by remainder and quotient (1909.02107). Ids are numbered in the order in which they were met, so that
remainders are spread evenly, and the first ids, up to the number of rows, begin with a row each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.errors import UserError
from recdistill.models.embeddings.composed import ComposedTable
from recdistill.models.embeddings.growable import Drawn, GrowableTable
from recdistill.models.embeddings.modulo import Modulo

__all__ = ["HashedTable", "QuotientTable"]

QUOTIENTS = 8  # one row in so many is a quotient's


class _SharedTable(ComposedTable):
    """What tables whose ids share `most` rows have in common; modulo: by the name of a part, which of its rows each id
    reads.
    """

    def __init__(self, table: GrowableTable, parts: dict[str, GrowableTable], modulo: dict[str, Modulo]) -> None:
        super().__init__(table, parts)
        self.modulo, self.most = modulo, modulo[""].most

    def _read(self, unique: Tensor) -> list[Tensor]:
        """Return what ids read of each part, float32 [U, width]; several ids may have the same row."""
        return [part.shared(unique, self.modulo[name]) for name, part in self.parts.items()]

    def _peeked(self, ids: Tensor) -> list[Tensor]:
        return [part.peek(self.modulo[name].rows(ids)) for name, part in self.parts.items()]

    def seen(self, count: int) -> Tensor:
        """Return int32 [count], how many steps learned from the rows of the first ids' remainders."""
        return self.parts[""].seen(self.most + 1).index_select(0, self.modulo[""].rows(torch.arange(count)))

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
        super().__init__(table, {"": GrowableTable(table.width, **table.settings)}, {"": Modulo(most)})

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, see `GrowableTable`; several ids may have the same one."""
        return self._read(unique)[0].to(self.device)

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of the rows of ids, int64 [n]."""
        return self._peeked(rows)[0]

    def stored(self, rows: int) -> dict[str, tuple[GrowableTable, int]]:
        """Return the table of rows that ids share, and how many of those the first ids read."""
        return {"": (self.parts[""], min(rows, self.most + 1))}


class QuotientTable(_SharedTable):
    """A table of at most `rows` rows, an eighth of them for quotients: an id's row is that of its remainder times that
    of its quotient, number by number. A quotient's row begins as ones, so that ids of one remainder begin alike; they
    may part, up to 7/64 of `rows` squared.
    """

    def __init__(self, table: GrowableTable, rows: int) -> None:
        self.quotients = rows // QUOTIENTS
        most = rows - self.quotients
        own, times = (GrowableTable(table.width, **table.settings) for _ in range(2))
        times.start_as(Drawn(((table.name, table.width, 0.0),), around=1.0))
        modulo = {"": Modulo(most), "quotient": Modulo(self.quotients, most)}
        super().__init__(table, {"": own, "quotient": times}, modulo)

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, see `GrowableTable`."""
        rows, times = self._read(unique)
        return (rows * times).to(self.device)

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of the rows of ids, int64 [n]."""
        own, times = self._peeked(rows)
        return own * times

    def stored(self, rows: int) -> dict[str, tuple[GrowableTable, int]]:
        """Return the tables of remainders and of quotients, and how many rows of each the first ids read."""
        ids = max(rows - 1, 1)
        most, quotients = min(ids, self.most), min(-(-ids // self.most), self.quotients)
        return {"": (self.parts[""], most + 1), "quotient": (self.parts["quotient"], quotients + 1)}
