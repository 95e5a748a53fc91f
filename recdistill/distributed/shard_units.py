"""Which weights are gathered together where a network's dense part is spread over ranks: layer by layer,
and all the rest at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

__all__ = ["gathered", "is_layer"]


def is_layer(parent: nn.Module, name: str, part: nn.Module) -> bool:
    """Return whether a part is gathered when it is used: it stands in a list or closes a stack, and has
    parts itself.
    """
    return (isinstance(parent, nn.ModuleList) or name == "closing") and any(True for _ in part.children())


def gathered(network: nn.Module) -> tuple[int, int]:
    """Return how many parameters stand outside of all layers, and the most that are gathered for a layer, with those
    of the layers around it.

    The former are gathered for all of a step.
    """
    return _own(network), max((_deepest(layer) for layer in _outermost(network)), default=0)


def _outermost(part: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers inside that stand in no other."""
    for name, child in part.named_children():
        if is_layer(part, name, child):
            yield child
        else:
            yield from _outermost(child)


def _own(part: nn.Module) -> int:
    """Return how many parameters are in no layer inside."""
    inside = {id(parameter) for layer in _outermost(part) for parameter in layer.parameters()}
    return sum(parameter.numel() for parameter in part.parameters() if id(parameter) not in inside)


def _deepest(layer: nn.Module) -> int:
    return _own(layer) + max((_deepest(inner) for inner in _outermost(layer)), default=0)
