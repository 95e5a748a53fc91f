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

from recdistill.distributed.ranks import ALONE, Ranks, in_full
from recdistill.errors import UserError
from recdistill.models.embeddings.sharded import ShardedTable, products
from recdistill.models.factory import named_tables
from recdistill.models.widths import Dim, NetworkWidths, widths_of

__all__ = ["MEASURE_EVERY", "Importance", "Measure", "products_of", "unread"]

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


def _readers(network: nn.Module, widths: NetworkWidths) -> Iterator[tuple[str, nn.Linear]]:
    for name, part in network.named_modules():
        if isinstance(part, nn.Linear) and f"{name}.weight" in widths.dims:
            yield name, part


def unread(network: nn.Module) -> list[str]:
    """Return the widths of which no linear layer reads anything, so that activation knows nothing of them."""
    widths = widths_of(network)
    parts = [part for name, _ in _readers(network, widths) for part in widths.dims[f"{name}.weight"][1].parts]
    return [name for name in widths.sizes if all(name not in part for part in parts)]


def products_of(network: nn.Module, loss: Tensor | None = None, ranks: Ranks = ALONE) -> dict[str, Tensor]:
    """Return |weight x gradient| of every parameter, and [width] of every table's columns, by name: of the gradients
    that a backward pass left, or of those of `loss`, whose graph stays.

    ranks: those that share the step, each with its part of the loss. They call it together, once the parameters'
    gradients that backward left are added up.
    """
    parameters, tables = dict(network.named_parameters()), named_tables(network)
    leaves = [(name, leaf) for name, table in tables.items() for leaf in table.leaves()]
    values: list[Tensor] = [*parameters.values(), *(leaf for _, leaf in leaves)]
    gradients: Sequence[Tensor | None] = [value.grad for value in values]
    if loss is not None:
        gradients = torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True)
        gradients = _added_up(gradients, len(parameters), ranks)
    of_weights, of_rows = gradients[: len(parameters)], gradients[len(parameters) :]
    weights = zip(parameters.items(), of_weights, strict=True)
    found = {name: (value.detach() * pull).abs() for (name, value), pull in weights if pull is not None}
    spread = {name: table for name, table in tables.items() if isinstance(table, ShardedTable)}
    if spread:
        return found | dict(zip(spread, products([*spread.values()], of_rows, ranks), strict=True))
    for (name, leaf), pull in zip(leaves, of_rows, strict=True):
        if pull is not None:
            found[name] = (leaf.detach() * pull).abs().sum(0) + found.get(name, 0.0)
    return found


def _added_up(gradients: Sequence[Tensor | None], count: int, ranks: Ranks) -> list[Tensor | None]:
    """Return gradients of which the first `count` are added up over ranks, in one message."""
    if ranks.size == 1:
        return [*gradients]
    found = [None if one is None else one.clone() for one in gradients]
    ranks.sum_in_place([one for one in found[:count] if one is not None])
    return found


class Importance:
    """The score of every unit of the `network`'s widths, float32 [n] by width, of one measure; ranks: those that learn
    it together, which have equal scores: `update` and `kept` are calls of all of them. due: whether what linear layers
    read from now on counts.
    """

    def __init__(self, network: nn.Module, measure: Measure, ranks: Ranks = ALONE) -> None:
        self.network, self.measure, self.ranks = network, measure, ranks
        self.widths: NetworkWidths = widths_of(network)
        self.scores = {name: torch.zeros(size) for name, size in self.widths.sizes.items()}
        self._read: dict[str, Tensor] = {}  # by linear layer, the sums of what it read, and of how many rows
        self.due = False
        for name, part in _readers(network, self.widths) if measure == "activation" else ():
            self._read[name] = torch.zeros(part.in_features + 1, dtype=torch.float64)
            part.register_forward_pre_hook(self._reader(name))

    def _reader(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_part: nn.Module, given: tuple[Tensor, ...]) -> None:
            if self.due and torch.is_grad_enabled():
                read = given[0].detach().abs().flatten(0, -2)
                self._read[name] = torch.cat([read.sum(0), read.new_tensor([len(read)])]).double().cpu()

        return note

    def update(self, products: Mapping[str, Tensor]) -> None:
        """Count one step; products: of `products_of`, which taylor alone reads."""
        found = {"taylor": self._by_gradient, "activation": self._by_input}.get(self.measure)
        if found is None:
            return
        for name, score in found(products).items():
            self.scores[name] = SMOOTH * self.scores[name] + (1 - SMOOTH) * score

    def _by_gradient(self, products: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self._summed((dims, products[name]) for name, dims in self._belonging() if name in products)
        return found | self._of_layers(products)

    def _by_input(self, _: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.ranks.sum_in_place([*self._read.values()])
        means = {name: read[:-1] / read[-1].clamp(min=1) for name, read in self._read.items()}
        for read in self._read.values():
            read.zero_()
        return self._summed(((self.widths.dims[f"{name}.weight"][1],), mean) for name, mean in means.items())

    def _of_layers(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of all that each layer of a stack has, by width."""
        found = {name: torch.zeros(len(stack.paths)) for name, stack in self.widths.stacks.items()}
        for name, value in values.items():
            place = self.widths.in_layer(name)
            if place is not None:
                found[place.width][place.layer] += in_full(value).float().sum().cpu()
        return found

    def _belonging(self) -> Iterator[tuple[str, tuple[Dim, ...]]]:
        yield from self.widths.dims.items()
        yield from ((name, (dim,)) for name, dim in self.widths.tables.items())

    def _summed(self, values: Iterable[tuple[tuple[Dim, ...], Tensor]]) -> dict[str, Tensor]:
        """Return the sums by unit of values that lie along dimensions, [n, ...]."""
        found = {name: torch.zeros(size) for name, size in self.widths.sizes.items()}
        for dims, share in values:
            value = in_full(share)
            for at, dim in enumerate(dims):
                along = value.float().sum([d for d in range(value.dim()) if d != at]) if value.dim() > 1 else value
                for name, into in found.items():
                    unit = units_along(dim, self.widths.sizes, name)
                    into.index_add_(0, unit[unit >= 0], along[unit >= 0].float().cpu())
        return found

    def _by_magnitude(self) -> dict[str, Tensor]:
        squares = {name: p.detach().square() for name, p in self.network.named_parameters()}
        rows = {name: table.state()["weight"].double() for name, table in named_tables(self.network).items()}
        sums = {name: torch.cat([one.square().sum(0), one.new_tensor([len(one)])]) for name, one in rows.items()}
        self.ranks.sum_in_place([*sums.values()])
        squares |= {name: one[:-1] / one[-1] for name, one in sums.items() if one[-1]}  # of no rows it were no number
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
