"""Encoders make what they need on the device of their inputs: a tensor made without naming one would be the CPU's, whatever those are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recdistill.models.hstu import HSTUStack
from recdistill.models.layout import lay_out
from recdistill.models.longer import LongerStack
from recdistill.models.sequences import Sequences, sequences
from recdistill.models.token_mixer import TokenMixer
from recdistill.models.transformer import TransformerStack
from tests.models.samples import make_batch

WIDTH, LENGTH = 8, 9
STACKS: dict[str, Callable[[], nn.Module]] = {
    "hstu": lambda: HSTUStack(WIDTH, 2, LENGTH, 2, band=3, columns=2),
    "hstu, newest": lambda: HSTUStack(WIDTH, 2, LENGTH, 2, 1, 4, band=2, columns=2, columns_at="newest", recompute=True),
    "sasrec": lambda: TransformerStack(WIDTH, 2, LENGTH, 2, "sasrec", bias=["position", "time"], band=3),
    "llama": lambda: TransformerStack(WIDTH, 2, LENGTH, 2),
    "longer": lambda: LongerStack(WIDTH, 2, LENGTH, 2, 2, 3),
}


FACTORIES = (torch.arange, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones, torch.rand, torch.randint, torch.randn,
             torch.randperm, torch.tensor, torch.zeros)  # fmt: skip


class Named(TorchFunctionMode):
    """Let nobody make a tensor without naming its device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FACTORIES and (kwargs or {}).get("device") is None:
            raise AssertionError(f"torch.{func.__name__} without a device")
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("name", STACKS)
def test_an_encoder_stays_on_its_device(name: str) -> None:
    torch.manual_seed(0)
    stack, layout = STACKS[name](), lay_out(make_batch((2, 1, 3), (4, 0, 9)).history)
    events, targets = torch.randn(3, LENGTH, WIDTH), layout.group(torch.randn(len(layout.of), WIDTH))
    with Named():
        at, order = Sequences.of(layout)
        out = stack(events if order is None else events.index_select(0, order), targets, at)
        out.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in stack.parameters())


CODES = torch.tensor([1])
RULES: dict[str, Callable[[Sequences, Tensor], Any]] = {
    "shortened": lambda at, x: at.shortened(x, 1.0, LENGTH), "newest": lambda at, x: at.newest(x, 3),
    "actions": lambda at, x: at.of_actions(x, CODES),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_choosing_events_stays_on_its_device(name: str) -> None:
    torch.manual_seed(0)
    lengths, age, x = torch.tensor([LENGTH, 5, 1]), torch.arange(LENGTH + 6), torch.randn(3, LENGTH, WIDTH)
    with Named():
        at, _ = sequences(lengths, age, age % 2)
        fewer, rows = RULES[name](at, x)
    assert rows.shape[:2] == fewer.age.shape and rows.shape[1] < LENGTH


def test_the_token_mixer_stays_on_its_device() -> None:
    mixer = TokenMixer(WIDTH, tokens=4, width=8, layers=2, experts=3, active=2)
    x = torch.ones(5, WIDTH)
    with Named():
        mixer(x).sum().backward()


def test_a_tensor_without_a_device_is_found() -> None:
    with pytest.raises(AssertionError, match=r"torch.arange without a device"), Named():
        torch.arange(3)
