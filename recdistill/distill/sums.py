"""What is summed over the processes that share a step's rows, where there are several; nothing is here for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["ONE", "Sums", "moments", "of_powers", "powers"]


class Sums(Protocol):
    """The processes that share a step's rows, as `Ranks` does it; size: how many they are."""

    @property
    def size(self) -> int: ...

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes, in one message; a call of all together."""


class _One:
    """One process alone."""

    size = 1

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Leave them."""


ONE = _One()


def moments(values: Tensor, sums: Sums) -> tuple[int, Tensor, Tensor]:
    """Return (n, mean [W], variance [W]) of the rows [n, W] of all processes, in one message."""
    if sums.size == 1:
        return len(values), values.mean(0), values.var(0, correction=0)
    own = powers(values)
    sums.sum_in_place([own])
    return int(own[0, 0]), *of_powers(own, values.dtype)


def powers(values: Tensor) -> Tensor:
    """Return float64 [3, W] of rows [n, W]: their number, their sum, and that of their squares, which add up."""
    return torch.stack([torch.ones_like(values).sum(0), values.sum(0), values.double().square().sum(0)]).double()


def of_powers(added: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (mean [W], variance [W]) of what `powers` of all rows add up to."""
    count, total, squares = torch.unbind(added)
    mean = total / count
    return mean.to(dtype), (squares / count - mean.square()).clamp(min=0).to(dtype)
