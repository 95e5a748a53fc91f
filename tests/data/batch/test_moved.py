"""What goes to CUDA goes by way of pinned memory, and the host does not wait for it."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from recdistill.data.batch.moved import gathered, moved
from recdistill.models.embeddings.growable import GrowableTable

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


class Traveller:
    """A tensor that writes down which way it goes."""

    def __init__(self, device: torch.device, way: tuple[Any, ...] = ()) -> None:
        self.device, self.way = device, way

    def pin_memory(self) -> Traveller:
        return Traveller(self.device, (*self.way, "pinned"))

    def to(self, device: torch.device, non_blocking: bool = False) -> Traveller:
        return Traveller(device, (*self.way, non_blocking))


@pytest.mark.parametrize(
    ("begins", "ends", "way"), [(CPU, CUDA, ("pinned", True)), (CUDA, CUDA, (False,)), (CPU, CPU, (False,))]
)
def test_only_what_lies_here_is_pinned_and_only_for_cuda(
    begins: torch.device, ends: torch.device, way: tuple[Any, ...]
) -> None:
    assert cast(Traveller, moved(cast(Tensor, Traveller(begins)), ends)).way == way


def test_rows_are_gathered_where_they_can_be_sent_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the host, in memory that was asked to be pinned, from which they are learned as from any other."""
    pinned, empty = list[bool](), torch.empty

    def asked(*shape: int, pin_memory: bool = False, **words: Any) -> Tensor:
        pinned.append(pin_memory)
        return empty(*shape, **words)

    monkeypatch.setattr(torch, "empty", asked)
    rows, at = torch.arange(12.0).view(6, 2), torch.tensor([0, 5, 2])
    assert torch.equal(gathered(rows, at, CUDA), rows[at]) and pinned == [True]
    assert torch.equal(gathered(rows, at, CPU), rows[at]) and pinned == [True]
    table = GrowableTable(2, seed=1, name="t", std=0.1)
    table.device, there = CUDA, Tensor.to
    monkeypatch.setattr(Tensor, "to", lambda rows, device, non_blocking=False: there(rows, CPU))
    before = table.peek(at)
    table(at).sum().backward()
    table.step()
    assert pinned == [True, True] and (table.peek(at)[1:] != before[1:]).all()
