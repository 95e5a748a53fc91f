"""Which units of the old network the new one is made of, and what that makes of each dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recdistill.models.widths import Dim, NetworkWidths

__all__ = ["NEW", "Growth", "Picked", "grown_units", "picked", "source_of"]

NEW = -1  # of a unit that the old network does not have
Growth = Literal["zero", "split", "fresh"]


@dataclass(frozen=True)
class Picked:
    """One dimension of the new parameter. old: int64 [n], the old indices, NEW for those that are new; share: float32
    [n], see `_shared_out`; copy: bool [n], which are there once before.
    """

    old: Tensor
    share: Tensor
    copy: Tensor

    @property
    def new(self) -> Tensor:
        """Return bool [n], which indices are new."""
        return self.old == NEW


def picked(dim: Dim, sizes: Mapping[str, int], units: Mapping[str, Tensor]) -> Picked:
    """Return what a dimension becomes where each width of `units` is made of these of its old units, int64 [m], a unit
    more than once for copies; sizes: of the old network's widths.
    """
    found, start = list[tuple[Tensor, Tensor, Tensor]](), 0
    for part in dim.parts:
        index, share, copy, size = torch.zeros(1, dtype=torch.int64), torch.ones(1), torch.zeros(1, dtype=torch.bool), 1
        for factor in part:
            own = units[factor] if isinstance(factor, str) else torch.arange(factor)
            length = sizes[factor] if isinstance(factor, str) else factor
            index = torch.where((index[:, None] < 0) | (own < 0), NEW, index[:, None] * length + own).flatten()
            shares, again = _shared_out(own)
            share, copy = (share[:, None] * shares).flatten(), (copy[:, None] | again).flatten()
            size *= length
        found.append((torch.where(index < 0, NEW, index + start), share, copy))
        start += size
    return Picked(*(torch.cat(one) for one in zip(*found, strict=True)))


def _shared_out(units: Tensor) -> tuple[Tensor, Tensor]:
    """Return float32 [m], the share of each unit in what reads it, 1 where it is there once or new; bool [m], which are
    there once before.

    Of n copies the first has n parts, the next n - 1: with equal shares they would have equal gradients, and what is
    equal then stays equal for ever.
    """
    known, place = units != NEW, units - NEW
    counts, order = torch.bincount(place), place.argsort(stable=True)
    before = torch.empty_like(order)
    before[order] = torch.arange(len(units)) - (counts.cumsum(0) - counts)[place[order]]
    count = counts[place]
    return torch.where(known, 2 * (count - before) / (count * (count + 1)), 1.0), known & (before > 0)


def grown_units(
    widths: NetworkWidths, kept: Mapping[str, Tensor], sizes: Mapping[str, int], growth: Growth, draw: torch.Generator
) -> dict[str, Tensor]:
    """Return the units of each width that is to have `sizes`: those `kept`, int64 [m], then new ones, or for split
    copies of kept ones that are drawn, each but once as long as there are others. Columns of tables and layers are new,
    never copies: two vectors that meet in a dot product cannot both be shared out, nor can two layers.
    """
    columns = {factor for dim in widths.tables.values() for part in dim.parts for factor in part} | widths.stacks.keys()
    found = {}
    for name, own in kept.items():
        more = sizes[name] - len(own)
        new = torch.full((more,), NEW)
        if growth == "split" and name not in columns and more:
            rounds = math.ceil(more / len(own))
            new = torch.cat([own[torch.randperm(len(own), generator=draw)] for _ in range(rounds)])[:more]
        found[name] = torch.cat([own, new])
    return found


def source_of(name: str, old: NetworkWidths, new: NetworkWidths, units: Mapping[str, Tensor]) -> str | None:
    """Return which parameter of the old network a parameter of the new one is made of, None for one of a new layer."""
    place = new.in_layer(name)
    if place is None:
        return name
    unit = int(units[place.width][place.layer])
    return None if unit == NEW else f"{old.stacks[place.width].paths[unit]}.{place.name}"
