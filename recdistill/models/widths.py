"""Which widths of a network can change: what its modules say about the dimensions of their parameters.

    NetworkWidths({"hidden": 32}, {"layer.weight": (out(["hidden"]), into([16])), "layer.bias": (out(["hidden"]),)})

A dimension is parts side by side, each a width by its name, a number, or a product of these, the first one outermost:
of 4 heads with 8 columns each, `("heads", "head_width")`. Layers that stand one behind another are units too, see
`Stack`. A module says it in its method `widths`; pruning, growth and warm starts need nothing else of it (compress/).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn

from recdistill.errors import UserError

__all__ = [
    "Dim",
    "InLayer",
    "NetworkWidths",
    "Part",
    "Stack",
    "into",
    "joined",
    "linear",
    "norm",
    "out",
    "stacked",
    "under",
    "widths_of",
]

Part = tuple[str | int, ...]  # factors, the first one outermost


@dataclass(frozen=True)
class Dim:
    """One dimension of a parameter: its parts side by side. reads: whether it takes what others made, as the inputs of
    a linear layer do: growth sets what is new there to zero, so that the network answers as before.
    """

    parts: tuple[Part, ...]
    reads: bool = False

    def size(self, sizes: Mapping[str, int]) -> int:
        """Return how long the dimension is where widths have these sizes."""
        return sum(math.prod(sizes[f] if isinstance(f, str) else f for f in part) for part in self.parts)


def _dim(parts: Iterable[str | int | Part], reads: bool) -> Dim:
    return Dim(tuple(part if isinstance(part, tuple) else (part,) for part in parts), reads)


def out(parts: Iterable[str | int | Part]) -> Dim:
    """Return the dimension of what a parameter makes."""
    return _dim(parts, reads=False)


def into(parts: Iterable[str | int | Part]) -> Dim:
    """Return the dimension of what a parameter reads."""
    return _dim(parts, reads=True)


def linear(
    made: Sequence[str | int | Part], read: Sequence[str | int | Part], bias: bool = True
) -> dict[str, tuple[Dim, ...]]:
    """Return the dimensions of an `nn.Linear`'s parameters."""
    return {"weight": (out(made), into(read))} | ({"bias": (out(made),)} if bias else {})


def norm(parts: Sequence[str | int | Part], bias: bool = True) -> dict[str, tuple[Dim, ...]]:
    """Return the dimensions of a norm's parameters."""
    return {name: (out(parts),) for name in ("weight", "bias")[: 1 + bias]}


def under(path: str, dims: Mapping[str, tuple[Dim, ...]]) -> dict[str, tuple[Dim, ...]]:
    """Return the dimensions of a module's parameters by their names in its parent, where it is `path`."""
    return {f"{path}.{name}": dim for name, dim in dims.items()}


@dataclass(frozen=True)
class Stack:
    """Layers of equal parameters, one behind another, which are the units of a width. paths: of their modules, in
    order. silent: names of those parameters in each without which it passes on what it was given; a new layer has them
    at 0.
    """

    paths: tuple[str, ...]
    silent: tuple[str, ...]


class InLayer(NamedTuple):
    """A parameter of a stack's layer: the stack's width, the layer's number, the parameter's name in the layer."""

    width: str
    layer: int
    name: str


@dataclass(frozen=True)
class NetworkWidths:
    """sizes: of each width, in units; dims: of parameters and buffers by name; tables: of the columns of embedding
    tables by name, which read where what they make meets another table's rows in a dot product; outputs: the parts of
    what the module returns. inexact: widths whose growth changes what the network answers, whatever is new is set to.
    stacks: of the widths whose units are layers.
    """

    sizes: dict[str, int]
    dims: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    tables: dict[str, Dim] = field(default_factory=dict)
    outputs: tuple[str | int | Part, ...] = ()
    inexact: frozenset[str] = frozenset()
    stacks: dict[str, Stack] = field(default_factory=dict)

    def in_layer(self, name: str) -> InLayer | None:
        """Return where a parameter stands in a stack, None for one of no layer."""
        for width, stack in self.stacks.items():
            for number, path in enumerate(stack.paths):
                if name.startswith(f"{path}."):
                    return InLayer(width, number, name.removeprefix(f"{path}."))
        return None

    def check(self, module: nn.Module) -> None:
        """Raise UserError, which names it, for a parameter, a table or a stack that has other sizes than these."""
        have = dict(module.state_dict(keep_vars=True))
        for name, stack in self.stacks.items():
            if len(stack.paths) != self.sizes[name]:
                raise UserError(f"widths: {name} has {len(stack.paths)} layers; its widths make it {self.sizes[name]}")
        for name, dims in self.dims.items():
            wanted = tuple(dim.size(self.sizes) for dim in dims)
            if name not in have or tuple(have[name].shape) != wanted:
                found = tuple(have[name].shape) if name in have else "not there"
                raise UserError(f"widths: {name} is {found}; its widths make it {wanted}")
        for name, dim in self.tables.items():
            width = getattr(module.get_submodule(name), "width", None)
            if width != dim.size(self.sizes):
                raise UserError(f"widths: table {name} is {width} wide; its widths make it {dim.size(self.sizes)}")


def joined(
    children: Mapping[str, NetworkWidths],
    outputs: tuple[str | int | Part, ...],
    dims: Mapping[str, tuple[Dim, ...]] | None = None,
    sizes: Mapping[str, int] | None = None,
    tables: Mapping[str, Dim] | None = None,
) -> NetworkWidths:
    """Return the widths of a module: those of its children by their names in it, its own, what it returns."""
    inexact = frozenset[str]().union(*(child.inexact for child in children.values()))
    found = NetworkWidths({**(sizes or {})}, {**(dims or {})}, {**(tables or {})}, outputs, inexact)
    for path, child in children.items():
        for name, stack in child.stacks.items():
            found.stacks[name] = Stack(tuple(f"{path}.{one}" for one in stack.paths), stack.silent)
        found.sizes.update(child.sizes)
        found.dims.update(under(path, child.dims))
        found.tables.update({f"{path}.{name}": dim for name, dim in child.tables.items()})
    return found


def stacked(name: str, layers: Mapping[str, NetworkWidths], silent: Sequence[str]) -> NetworkWidths:
    """Return the widths of layers of one kind, one behind another, by their names in the module, and of how many there
    are: `name`. silent: see Stack.
    """
    found = joined(layers, next((layer.outputs for layer in layers.values()), ()), sizes={name: len(layers)})
    found.stacks[name] = Stack(tuple(layers), tuple(silent))
    return found


def widths_of(module: nn.Module) -> NetworkWidths:
    """Return what a module says of its widths, checked; UserError for one that says nothing."""
    say = getattr(module, "widths", None)
    if say is None:
        raise UserError(
            f"{type(module).__name__}: says nothing of its widths, so it cannot be pruned or grown; give it a method "
            "widths (docs 'Prune and grow a student')"
        )
    found = say()
    if not isinstance(found, NetworkWidths):
        raise UserError(f"{type(module).__name__}.widths: returned {type(found).__name__}, not NetworkWidths")
    found.check(module)
    return found
