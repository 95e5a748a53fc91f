"""The mean of a history under an MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import Batch
from recdistill.data.batch.extras import NO_EXTRAS, Extras
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.layers.blocks import MLP, Inputs
from recdistill.models.layers.options import Width, Widths
from recdistill.models.layers.pooling import Alike
from recdistill.models.widths import NetworkWidths, joined

__all__ = ["PooledMLP"]


class PooledMLP(nn.Module):
    """An MLP on candidate, mean of the history, their product, user, context and lists."""

    def __init__(
        self,
        width: int,
        *,
        fields: int,
        slots: int,
        actions: int,
        hidden: Widths = (64, 32),
        context_width: Width = 8,
        tables: TableOptions,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(width, fields, slots, actions, context_width, tables, extras, Alike)
        self.body = MLP(self.inputs.width + width, hidden)
        self.output_width = self.body.output_width

    def widths(self) -> NetworkWidths:
        """Return its widths."""
        inputs = self.inputs.widths()
        body = self.body.widths([*inputs.outputs, "width"])
        return joined({"inputs": inputs, "body": body}, body.outputs, sizes={"width": self.inputs.item.width})

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, output_width]."""
        parts = self.inputs.pooled(batch)
        return torch.as_tensor(self.body(torch.cat([*parts, parts[0] * parts[1]], 1)))
