"""Several processes that train one model: which rows of a step belong to which rank, and what they exchange
(torch.distributed).

Shapes: N ranks. Every call but `part` is made by all ranks together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import EllipsisType
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from recdistill.typing import Array

__all__ = ["ALONE", "DENSE", "IN_FULL", "Dense", "InFull", "Ranks", "Rows", "gradients_of", "in_full", "ranks_here"]

DENSE = ("network/", "optimiser/")  # what the names of a dense part's state begin with
Network = TypeVar("Network", bound=nn.Module)
Numbers = TypeVar("Numbers", Tensor, Array)


@dataclass(frozen=True)
class Ranks:
    """This process's number among `size`; alone, nothing is sent to anyone. short: whether the dense part's gradients,
    embedding rows and their gradients travel in bfloat16. group: in which rows are exchanged, None for that of all;
    ahead, writing: others of the same ranks, for what a second and a third thread exchange, None without them. tensor:
    how many ranks share each layer of a token mixer, token by token; those with the same tokens have numbers in a row.
    timeout: how long a new group waits for a rank, None: as long as torch has it.
    """

    rank: int = 0
    size: int = 1
    short: bool = False
    group: dist.ProcessGroup | None = None
    ahead: dist.ProcessGroup | None = None
    writing: dist.ProcessGroup | None = None
    tensor: int = 1
    timeout: timedelta | None = None

    @property
    def first(self) -> bool:
        """Return whether this is the rank that writes what all ranks share."""
        return self.rank == 0

    def part(self, rows: int, starts: Array | None = None) -> slice:
        """Return which of a step's rows are this rank's: neighbours stay together, sizes differ by one at most.

        starts: int [n], ascending, where alone a part may begin: a later one than it would; None for anywhere.
        """
        edges = [rows * number // self.size for number in (self.rank, self.rank + 1)]
        if starts is not None:
            starts = np.append(starts, rows)
            edges = starts[np.searchsorted(starts, edges)].tolist()
        return slice(*edges)

    def part_or_first(self, rows: int, starts: Array | None = None) -> tuple[slice, bool]:
        """Return this rank's part of a step's rows, and whether it has one: without one it takes the first row, of
        which nothing counts.
        """
        part = self.part(rows, starts)
        return (part, True) if part.stop > part.start else (slice(0, 1), False)

    def chunk(self, rows: int) -> slice:
        """Return which of a spread weight's rows this rank keeps: all but the last ranks as many, as FSDP2 does it."""
        each = -(-rows // self.size)
        return slice(min(self.rank * each, rows), min((self.rank + 1) * each, rows))

    def owns(self, rows: Tensor) -> Tensor:
        """Return bool [n]: which rows of a table that is spread over ranks are this rank's, of their numbers r in the
        whole table, int64 [n]: those of which r mod N is its own; it has row r at place r // N.
        """
        return rows % self.size == self.rank

    def numbers(self, places: Numbers) -> Numbers:
        """Return int64 [n], the numbers in the whole table of this rank's rows at these places."""
        return places * self.size + self.rank

    def chunk_of_tokens(self, rows: int) -> slice:
        """Return the same of a weight that is spread over ranks of a group first, into equal parts, and then over those
        with the same tokens.
        """
        copies, own = self.size // self.tensor, rows // self.tensor
        inside = Ranks(self.rank % copies, copies).chunk(own)
        start = self.rank // copies * own
        return slice(start + inside.start, start + inside.stop)

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors of one type by their sums over all ranks, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their sums over all ranks, the same bits on every rank. What is sent may be short,
        and is added up in float32: a rank sums a piece of all, and sends the sum.
        """
        if not self.short or self.size == 1 or not tensors:
            return self.sum_in_place(tensors)
        sizes = [tensor.numel() for tensor in tensors]
        flat = torch.cat([*(tensor.reshape(-1) for tensor in tensors), tensors[0].new_zeros(-sum(sizes) % self.size)])
        sent = flat.bfloat16()
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        piece = received.view(self.size, -1).float().sum(0).bfloat16()
        pieces = [torch.empty_like(piece) for _ in range(self.size)]
        dist.all_gather(pieces, piece)
        summed = torch.cat(pieces)[: sum(sizes)].float()
        for tensor, part in zip(tensors, torch.split(summed, sizes), strict=True):
            tensor.copy_(part.view_as(tensor))

    def merged(self, values: Array) -> Array:
        """Return an array of which every rank filled in its part and left zeros elsewhere; bit for bit."""
        if self.size == 1:
            return values
        whole = torch.from_numpy(
            np.ascontiguousarray(values).view(np.uint8).astype(np.int32)
        )  # no two ranks fill in one byte
        dist.all_reduce(whole)
        return np.asarray(whole.numpy().astype(np.uint8)).view(values.dtype).reshape(values.shape)

    def counts(self, mine: Tensor) -> Tensor:
        """Return int64 [N], how many rows each rank will send, given int64 [N], how many this one sends to each."""
        theirs = torch.empty_like(mine)
        dist.all_to_all_single(theirs, mine, group=self.group)
        return theirs

    def exchange(self, rows: Tensor, mine: Sequence[int], theirs: Sequence[int]) -> Tensor:
        """Return what the others sent, [sum theirs, ...], for `rows` [sum mine, ...] in order of the receiving rank."""
        found = rows.new_empty(sum(theirs), *rows.shape[1:])
        dist.all_to_all_single(found, rows.contiguous(), list(theirs), list(mine), group=self.group)
        return found

    def exchange_all(
        self, arrays: Sequence[Tensor], mine: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """Return the same of several arrays of one type, each of its own width, in one message; floats as
        `exchange_floats` does it.
        """
        widths, places = [math.prod(rows.shape[1:]) for rows in arrays], range(self.size)
        cut = [
            torch.split(rows.reshape(-1), [count * width for count in counts])
            for rows, width, counts in zip(arrays, widths, mine, strict=True)
        ]
        whole = torch.cat([pieces[rank] for rank in places for pieces in cut])
        sent = [sum(len(pieces[rank]) for pieces in cut) for rank in places]
        sizes = [[counts[rank] * width for width, counts in zip(widths, theirs, strict=True)] for rank in places]
        send = self.exchange_floats if whole.is_floating_point() else self.exchange
        came = torch.split(send(whole, sent, [sum(one) for one in sizes]), [size for one in sizes for size in one])
        of_each = [torch.cat(came[at :: len(arrays)]) for at in range(len(arrays))]
        return [found.reshape(-1, *rows.shape[1:]) for found, rows in zip(of_each, arrays, strict=True)]

    def exchange_floats(self, rows: Tensor, mine: Sequence[int], theirs: Sequence[int]) -> Tensor:
        """Return the same of float32 rows, float32, rounded to bfloat16 where messages are short."""
        if not self.short:
            return self.exchange(rows, mine, theirs)
        return self.exchange(rows.bfloat16(), mine, theirs).float()

    def gather(self, mine: int) -> list[int]:
        """Return the number that each rank gave, in the order of ranks."""
        if self.size == 1:
            return [mine]
        found = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(found, torch.tensor([mine]), group=self.group)
        return [int(number) for number in found]

    def wait(self) -> None:
        """Return once every rank has come here."""
        if self.size > 1:
            dist.barrier(group=self.group)


ALONE = Ranks()


class Rows(Protocol):
    """A tensor, here or in files; its rows, or all of it by `...`, are read when asked for."""

    @property
    def shape(self) -> torch.Size: ...
    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor: ...


class Dense(Protocol):
    """How a network's parameters lie over ranks."""

    @property
    def ranks(self) -> Ranks: ...
    def built(self, make: Callable[[], Network]) -> Network: ...
    def add_up(self, network: nn.Module, total: Tensor) -> float: ...
    def clip(self, network: nn.Module, most: float) -> None: ...
    def whole(self, network: Network, make: Callable[[], Network]) -> Network: ...
    def take(self, network: nn.Module, whole: nn.Module) -> None: ...
    def spread(self, whole: Network, make: Callable[[], Network]) -> Network: ...
    def share(self, value: Rows, pattern: Tensor | None) -> Tensor: ...
    def local(self, tensor: Tensor) -> Tensor: ...
    def mine(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]: ...
    def shares(self, network: nn.Module, stored: Mapping[str, Rows]) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class InFull:
    """Every rank holds all of them."""

    ranks: Ranks = ALONE

    def built(self, make: Callable[[], Network]) -> Network:
        """Return what `make` makes."""
        return make()

    def add_up(self, network: nn.Module, total: Tensor) -> float:
        """Replace the gradients by their sums over all ranks; return what is finite where those, and `total`, float32
        [1], of all ranks are.
        """
        gradients = gradients_of(network)
        total = total.to(gradients[0].device)
        self.ranks.add_up([*gradients, total])
        return float(torch.stack([total[0], *(gradient.sum() for gradient in gradients)]).sum())

    def clip(self, network: nn.Module, most: float) -> None:
        """Scale the gradients down to a norm of at most `most`."""
        torch.nn.utils.clip_grad_norm_(network.parameters(), most)

    def whole(self, network: Network, make: Callable[[], Network]) -> Network:
        """Return a network with all of its weights: itself."""
        return network

    def take(self, network: nn.Module, whole: nn.Module) -> None:
        """Give a network the weights of what `whole` returned, which it has."""

    def spread(self, whole: Network, make: Callable[[], Network]) -> Network:
        """Return a network of whose weights this rank has its own: the whole one."""
        return whole

    def share(self, value: Rows, pattern: Tensor | None) -> Tensor:
        """Return what this rank has of a value that lies as `pattern` does: all of it."""
        return value[...]

    def local(self, tensor: Tensor) -> Tensor:
        """Return what this rank holds of a tensor."""
        return tensor

    def mine(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what this rank writes of a state: the first rank all of it."""
        return tensors if self.ranks.first else {}

    def shares(self, network: nn.Module, stored: Mapping[str, Rows]) -> dict[str, Tensor]:
        """Return what this rank takes of a state of `network` and its optimiser: all of it."""
        return {name: value[...] for name, value in stored.items() if name.startswith(DENSE)}


IN_FULL = InFull()


def ranks_here() -> Ranks:
    """Return the ranks that this process has joined, for a layer that needs to know of them."""
    joined = dist.is_available() and dist.is_initialized()
    return Ranks(dist.get_rank(), dist.get_world_size()) if joined else ALONE


def in_full(tensor: Tensor) -> Tensor:
    """Return a tensor with the shares that all ranks have of it, in one message where it is spread; a call of all of
    them together.
    """
    full_tensor = getattr(tensor, "full_tensor", None)  # DTensor's, whose import takes a third of a second
    return tensor if full_tensor is None else torch.as_tensor(full_tensor())


def gradients_of(network: nn.Module) -> list[Tensor]:
    """Return the gradients of a network's parameters, of those that have one."""
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
