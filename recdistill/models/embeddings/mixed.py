"""An embedding table whose rows are as wide as their ids are frequent (mixed widths, 1909.11810): every id has the
first numbers of a row, and who came often the others too, which read as zeros elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.errors import UserError
from recdistill.models.embeddings.bounded import BoundedTable, RowBudget
from recdistill.models.embeddings.composed import ComposedTable
from recdistill.models.embeddings.growable import GrowableTable

__all__ = ["MixedTable"]


class MixedTable(ComposedTable):
    """A table of rows of `budget.narrow` numbers and, for ids to which it gives a row, of all; published ones are
    projected to one width, these are filled up with zeros, so the layer above projects them.
    """

    def __init__(self, table: GrowableTable, budget: RowBudget) -> None:
        own = GrowableTable(budget.narrow, **table.settings)
        rest = GrowableTable(table.width - budget.narrow, **table.settings | {"name": f"{table.name}+rest"})
        super().__init__(table, {"": own, "rest": BoundedTable(rest, budget)})

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, see `GrowableTable`; only what is learned from counts as seen."""
        return torch.cat([part(unique) for part in self.parts.values()], 1).to(self.device)

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of the rows of ids, int64 [n]."""
        return torch.cat([part.peek(rows) for part in self.parts.values()], 1)

    def seen(self, count: int) -> Tensor:
        """Return int32 [count], how many steps learned from each of the first ids' rows."""
        return self.parts[""].seen(count)

    def freeze(self, rows: Tensor) -> None:
        """Raise UserError: the rest of a row could be taken by another id."""
        raise UserError("rows of mixed widths cannot be frozen; leave out rows, or what freezes them")

    def take_rows(self, rows: Tensor, values: Tensor) -> None:
        """Raise UserError: there need not be room for all of their numbers."""
        raise UserError("rows of mixed widths cannot be taken over from another table; leave out rows")

    def stored(self, rows: int) -> dict[str, tuple[GrowableTable, int]]:
        """Return the tables of the first numbers and of the rest, of every id."""
        return {name: (part, rows) for name, part in self.parts.items()}

    def facts(self) -> dict[str, int]:
        """Return how many ids have a whole row, and what was counted so far."""
        return self.parts["rest"].facts()
