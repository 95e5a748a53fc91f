"""DCN-v2: cross layers and a deep tower in parallel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import Batch
from recdistill.data.batch.extras import NO_EXTRAS, Extras
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.layers.blocks import MLP, Inputs
from recdistill.models.layers.options import Number, Width, Widths
from recdistill.models.layers.pooling import Alike
from recdistill.models.widths import NetworkWidths, joined, linear, stacked

__all__ = ["DCNv2"]


class DCNv2(nn.Module):
    """Deep & Cross Network v2, parallel (2008.13535, equation 1): x <- x0 * (W x + b) + x beside an MLP on x0."""

    def __init__(
        self,
        width: int,
        *,
        fields: int,
        slots: int,
        actions: int,
        crosses: Number = 2,
        hidden: Widths = (64, 32),
        context_width: Width = 8,
        tables: TableOptions,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(width, fields, slots, actions, context_width, tables, extras, Alike)
        total = self.inputs.width
        self.crosses = nn.ModuleList(nn.Linear(total, total) for _ in range(crosses))
        self.body = MLP(total, hidden)
        self.output_width = total + self.body.output_width

    def widths(self) -> NetworkWidths:
        """Return its widths."""
        inputs = self.inputs.widths()
        total, body = inputs.outputs, self.body.widths(inputs.outputs)
        cross = NetworkWidths({}, linear(total, total), outputs=total)
        layers = {str(number): cross for number in range(len(self.crosses))}
        children = {"inputs": inputs, "body": body, "crosses": stacked("crosses", layers, ("weight", "bias"))}
        return joined(children, (*total, *body.outputs), sizes={"width": self.inputs.item.width})

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, output_width]."""
        first = torch.cat(self.inputs.pooled(batch), 1)
        x = first
        for cross in self.crosses:
            x = torch.addcmul(x, first, cross(x))
        return torch.cat([x, self.body(first)], 1)
