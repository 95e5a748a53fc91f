"""Networks as a user writes them: one that says which of its widths can change, and one that does not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import Batch
from recdistill.models.embeddings.growable import GrowableTable, TableOptions
from recdistill.models.widths import NetworkWidths, linear, out, under


class NoWidths(nn.Module):
    """The candidate's row under a linear layer."""

    def __init__(self, width: int, *, hidden: int = 6, tables: TableOptions) -> None:
        super().__init__()
        self.item = GrowableTable(width, seed=tables.seed, name="item", std=0.1, rate=tables.rate)
        self.layer = nn.Linear(width, hidden)
        self.output_width = hidden

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, hidden]."""
        return torch.relu(self.layer(self.item(batch.item.unique).index_select(0, batch.item.inverse)))


class WithWidths(NoWidths):
    """The same, and what it takes to prune or grow it."""

    def widths(self) -> NetworkWidths:
        """Return its widths."""
        sizes = {"width": self.item.width, "hidden": self.output_width}
        return NetworkWidths(
            sizes, under("layer", linear(["hidden"], ["width"])), {"item": out(["width"])}, ("hidden",)
        )


class InSixes(WithWidths):
    """Units come by the six."""

    def __init__(self, width: int, *, hidden: int = 6, tables: TableOptions) -> None:
        if hidden % 6:
            raise ValueError(f"hidden is {hidden}; give a multiple of 6")
        super().__init__(width, hidden=hidden, tables=tables)
