"""How much each unit of a network's widths counts: what is pruned first.

taylor: |weight x gradient| of all that belongs to a unit, smoothed over steps (as LoSparse, 2306.11222, has it);
activation: the mean absolute value that linear layers read of it; magnitude: the norm of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recdistill.errors import UserError
from recdistill.models.factory import named_tables
from recdistill.models.widths import Dim, NetworkWidths, widths_of

__all__ = ["MEASURE_EVERY", "Importance", "Measure", "products_of"]

Measure = Literal["taylor", "activation", "magnitude"]
MEASURE_EVERY = 20  # steps
SMOOTH = 0.9  # of what was measured before


def units_along(dim: Dim, sizes: Mapping[str, int], width: str) -> Tensor:
    """Return int64 [n], which unit of `width` each index of a dimension belongs to, -1 for none."""
    found = []
    for part in dim.parts:
        lengths = [sizes[factor] if isinstance(factor, str) else factor for factor in part]
        if width not in part:
            found.append(torch.full((math.prod(lengths),), -1))
            continue
        at = part.index(width)
        shape = [length if number == at else 1 for number, length in enumerate(lengths)]
        found.append(torch.arange(lengths[at]).view(shape).expand(lengths).flatten())
    return torch.cat(found)


def products_of(network: nn.Module, loss: Tensor | None = None) -> dict[str, Tensor]:
    """Return |weight x gradient| of every parameter, and [width] of every table's columns, by name: of the gradients
    that a backward pass left, or of those of `loss`, whose graph stays.
    """
    tables, found = named_tables(network), dict[str, Tensor]()
    values: list[tuple[str, Tensor]] = [*network.named_parameters()]
    values += [(name, leaf) for name, table in tables.items() for leaf in table.leaves()]
    gradients: Sequence[Tensor | None] = [value.grad for _, value in values]
    if loss is not None:
        gradients = torch.autograd.grad(loss, [value for _, value in values], retain_graph=True, allow_unused=True)
    for (name, value), gradient in zip(values, gradients, strict=True):
        if gradient is not None:
            product = (value.detach() * gradient).abs()
            found[name] = product.sum(0) + found.get(name, 0.0) if name in tables else product
    return found


class Importance:
    """The score of every unit of the `network`'s widths, float32 [n] by width, of one measure."""

    def __init__(self, network: nn.Module, measure: Measure) -> None:
        self.network, self.measure = network, measure
        self.widths: NetworkWidths = widths_of(network)
        self.scores = {name: torch.zeros(size) for name, size in self.widths.sizes.items()}
        self._read: dict[str, Tensor] = {}
        self.due = False
        if measure == "activation":
            for name, part in network.named_modules():
                if isinstance(part, nn.Linear) and f"{name}.weight" in self.widths.dims:
                    part.register_forward_pre_hook(self._reader(name))

    def _reader(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_part: nn.Module, given: tuple[Tensor, ...]) -> None:
            if self.due and torch.is_grad_enabled():
                self._read[name] = given[0].detach().abs().flatten(0, -2).mean(0)

        return note

    def update(self, products: Mapping[str, Tensor]) -> None:
        """Count one step; products: of `products_of`, which taylor alone reads."""
        found = {"taylor": self._by_gradient, "activation": self._by_input}.get(self.measure)
        if found is None:
            return
        for name, score in found(products).items():
            self.scores[name] = SMOOTH * self.scores[name] + (1 - SMOOTH) * score
        self._read.clear()

    def _by_gradient(self, products: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self._summed((dims, products[name]) for name, dims in self._belonging() if name in products)
        return found | self._of_layers(products)

    def _by_input(self, _: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._summed(((self.widths.dims[f"{name}.weight"][1],), values) for name, values in self._read.items())

    def _of_layers(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of all that each layer of a stack has, by width."""
        found = {name: torch.zeros(len(stack.paths)) for name, stack in self.widths.stacks.items()}
        for name, value in values.items():
            place = self.widths.in_layer(name)
            if place is not None:
                found[place.width][place.layer] += value.float().sum().cpu()
        return found

    def _belonging(self) -> Iterator[tuple[str, tuple[Dim, ...]]]:
        yield from self.widths.dims.items()
        yield from ((name, (dim,)) for name, dim in self.widths.tables.items())

    def _summed(self, values: Iterable[tuple[tuple[Dim, ...], Tensor]]) -> dict[str, Tensor]:
        """Return the sums by unit of values that lie along dimensions, [n, ...]."""
        found = {name: torch.zeros(size) for name, size in self.widths.sizes.items()}
        for dims, value in values:
            for at, dim in enumerate(dims):
                along = value.float().sum([d for d in range(value.dim()) if d != at]) if value.dim() > 1 else value
                for name, into in found.items():
                    unit = units_along(dim, self.widths.sizes, name)
                    into.index_add_(0, unit[unit >= 0], along[unit >= 0].float().cpu())
        return found

    def _by_magnitude(self) -> dict[str, Tensor]:
        squares = {name: p.detach().square() for name, p in self.network.named_parameters()}
        for name, table in named_tables(self.network).items():
            weight = table.state()["weight"]
            if len(weight):  # the mean of none would be no number, and so would be what it is added to
                squares[name] = weight.square().mean(0)
        found = self._summed((dims, squares[name]) for name, dims in self._belonging() if name in squares)
        found |= self._of_layers(squares)
        return {name: value.sqrt() for name, value in found.items()}

    def kept(self, sizes: Mapping[str, int]) -> dict[str, Tensor]:
        """Return int64 [size] per width, the units of the highest scores, in their order.

        Raises UserError for a width to be pruned that the measure knows nothing of.
        """
        scores = self._by_magnitude() if self.measure == "magnitude" else self.scores
        for name, size in sizes.items():
            if size < self.widths.sizes[name] and not bool(scores[name].any()):
                raise UserError(f"prune: importance {self.measure} knows nothing of {name}; choose another")
        return {
            name: scores[name].topk(size).indices.sort().values if size < len(scores[name]) else torch.arange(size)
            for name, size in sizes.items()
        }
