"""Which kind of table keeps to a budget of rows."""

from __future__ import annotations

from torch import nn

from recdistill.models.embeddings.bounded import BoundedTable, RowBudget
from recdistill.models.embeddings.growable import GrowableTable, replace_tables
from recdistill.models.embeddings.hashed import HashedTable, QuotientTable
from recdistill.models.embeddings.mixed import MixedTable

__all__ = ["bound_tables"]


def bound_tables(module: nn.Module, budget: RowBudget) -> None:
    """Replace every table inside by one that keeps to a budget; none of their rows was looked up yet."""
    replace_tables(module, lambda table: _bounded(table, budget))


def _bounded(table: GrowableTable, budget: RowBudget) -> GrowableTable:
    if budget.narrow:
        return MixedTable(table, budget) if table.width > budget.narrow else table
    if budget.share == "never":
        return BoundedTable(table, budget)
    return (HashedTable if budget.share == "remainder" else QuotientTable)(table, budget.most)
