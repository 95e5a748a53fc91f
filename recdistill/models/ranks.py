"""Several processes that train one model: which part of a step is whose, and what they tell each other (torch.distributed).

Letters: N ranks. Every call but `part` is made by all ranks together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["ALONE", "IN_FULL", "Dense", "InFull", "Ranks"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Ranks:
    """This process's number among `size`; alone, nothing is sent to anyone."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Return whether this is the rank that writes."""
        return self.rank == 0

    def part(self, rows: int) -> slice:
        """Return which of a step's rows are this rank's: neighbours stay together, sizes differ by one at most."""
        edges = [rows * number // self.size for number in (self.rank, self.rank + 1)]
        return slice(*edges)

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors of one type by their sums over all ranks, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def merged(self, values: Array) -> Array:
        """Return an array of which every rank filled in its part and left zeros elsewhere; bit for bit."""
        if self.size == 1:
            return values
        whole = torch.from_numpy(np.ascontiguousarray(values).view(np.uint8).astype(np.int32))  # no two ranks fill in one byte
        dist.all_reduce(whole)
        return np.asarray(whole.numpy().astype(np.uint8)).view(values.dtype).reshape(values.shape)

    def counts(self, mine: Tensor) -> Tensor:
        """Return int64 [N], how much each rank will send, of int64 [N], how much this one sends to each."""
        theirs = torch.empty_like(mine)
        dist.all_to_all_single(theirs, mine)
        return theirs

    def exchange(self, rows: Tensor, mine: Sequence[int], theirs: Sequence[int]) -> Tensor:
        """Return what the others sent, [sum theirs, ...], for `rows` [sum mine, ...] in order of the receiving rank."""
        found = rows.new_empty(sum(theirs), *rows.shape[1:])
        dist.all_to_all_single(found, rows.contiguous(), list(theirs), list(mine))
        return found

    def gathered(self, mine: Any) -> list[Any] | None:
        """Return every rank's object on the first rank, None on the others."""
        if self.size == 1:
            return [mine]
        found: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(mine, found)
        return found

    def wait(self) -> None:
        """Return once every rank has come here."""
        if self.size > 1:
            dist.barrier()


ALONE = Ranks()


class Dense(Protocol):
    """How a network's parameters lie over ranks."""

    @property
    def ranks(self) -> Ranks: ...
    def add_up(self, network: nn.Module) -> None: ...
    def local(self, tensor: Tensor) -> Tensor: ...
    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]: ...
    def shares(self, network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class InFull:
    """Every rank holds all of them."""

    ranks: Ranks = ALONE

    def add_up(self, network: nn.Module) -> None:
        """Replace the gradients by their sums over all ranks."""
        self.ranks.sum_in_place([parameter.grad for parameter in network.parameters() if parameter.grad is not None])

    def local(self, tensor: Tensor) -> Tensor:
        """Return what this rank holds of a tensor."""
        return tensor

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a state in full."""
        return tensors

    def shares(self, network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what this rank takes of a whole state of `network` and its optimiser."""
        return tensors


IN_FULL = InFull()
