"""Light backbones of the kind found in production: pooled history and MLP, DCN-v2, DIN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import Batch
from recdistill.data.batch.extras import NO_EXTRAS, Extras
from recdistill.errors import UserError
from recdistill.models.attention.target_ops import first_unit_layer, sigmoid_unit
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.layers.blocks import MLP, Dice, Inputs
from recdistill.models.layers.options import Bounds, Width, Widths
from recdistill.models.layers.pooling import pooled
from recdistill.models.widths import Dim, NetworkWidths, Part, joined, linear, out, under

__all__ = ["ActivationUnit", "DIN"]

Activation = Literal["sigmoid", "prelu", "dice"]


class ActivationUnit(nn.Module):
    """DIN's unit: one unnormalised weight per (candidate, event), an MLP on [q, k, q - k, q * k]."""

    def __init__(self, width: int, hidden: Sequence[int], activation: Activation) -> None:
        super().__init__()
        if activation not in ("sigmoid", "prelu", "dice"):
            raise UserError(f"din: activation {activation!r} is not one of sigmoid, prelu, dice")
        sizes = [4 * width, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.last = nn.Linear(sizes[-1], 1)
        self.activation = activation
        self.slopes = nn.ParameterList(nn.Parameter(torch.full((n,), 0.25)) for n in hidden if activation == "prelu")
        self.dices = nn.ModuleList(Dice(n) for n in hidden if activation == "dice")

    def dims(self, made: Part) -> dict[str, tuple[Dim, ...]]:
        """Return the dimensions of its parameters, of vectors that are `made` wide; its own widths are unit.0 ..."""
        found, read = dict[str, tuple[Dim, ...]](), [made] * 4
        for number in range(len(self.layers)):
            unit = (f"unit.{number}",)
            found |= under(f"layers.{number}", linear([unit], read))
            found |= {f"slopes.{number}": (out([unit]),)} if self.activation == "prelu" else {}
            if self.activation == "dice":
                found |= {f"dices.{number}.{name}": (out([unit]),) for name in ("slope", "mean", "variance")}
            read = [unit]
        return found | under("last", linear([1], read))

    def sizes(self) -> dict[str, int]:
        """Return the sizes of its widths."""
        return {f"unit.{number}": len(layer.weight) for number, layer in enumerate(self.layers)}  # type: ignore[arg-type]

    def _activate(self, x: Tensor, layer: int, mask: Tensor) -> Tensor:
        if self.activation == "sigmoid":
            return x.sigmoid()
        if self.activation == "dice":
            return torch.as_tensor(self.dices[layer](x, mask))
        return torch.where(x > 0, x, x * self.slopes[layer])

    def forward(self, query: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Return weights [P, L, C], 0 where mask [P, L, C] is False; query [P, C, D], events [P, L, D]."""
        first = self.layers[0]
        watched = bool(self.last._forward_pre_hooks)  # by who wants to know what it reads
        if self.activation == "sigmoid" and len(self.layers) == 1 and self.training and not watched:
            one = sigmoid_unit(query, events, first.weight, first.bias, self.last.weight[0])  # type: ignore[arg-type]
            return (one + self.last.bias) * mask
        x = first_unit_layer(query, events, first.weight, first.bias)  # type: ignore[arg-type]
        x = self._activate(x, 0, mask)
        for layer in range(1, len(self.layers)):
            x = self._activate(self.layers[layer](x), layer, mask)
        return torch.as_tensor(self.last(x)).squeeze(3) * mask


class DIN(nn.Module):
    """Deep Interest Network (1706.06978): history summed under the activation unit's weights, then an MLP."""

    def __init__(
        self,
        width: int,
        *,
        fields: int,
        slots: int,
        actions: int,
        unit: Annotated[Widths, Bounds(min_length=1)] = (32,),
        activation: Activation = "sigmoid",
        hidden: Widths = (64, 32),
        context_width: Width = 8,
        tables: TableOptions,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(
            width,
            fields,
            slots,
            actions,
            context_width,
            tables,
            extras,
            partial(ActivationUnit, width, unit, activation),
        )
        self.unit = ActivationUnit(width, unit, activation)
        self.body = MLP(self.inputs.width, hidden)
        self.output_width = self.body.output_width

    def widths(self) -> NetworkWidths:
        """Return its widths."""
        inputs = self.inputs.widths()
        body = self.body.widths(inputs.outputs)
        unit = under("unit", self.unit.dims(("width",)))
        sizes = {"width": self.inputs.item.width, **self.unit.sizes()}
        return joined({"inputs": inputs, "body": body}, body.outputs, unit, sizes)

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, output_width]."""
        candidate, events, side, layout = self.inputs(batch)
        interest = pooled(self.unit, candidate, events, layout)
        return torch.as_tensor(self.body(torch.cat([candidate, interest, *side], 1)))
