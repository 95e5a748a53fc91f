"""HSTU equals the written-out one: a candidate passes the layers as if it alone were appended."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recdistill.models.encoders.hstu import HSTULayer, HSTUStack
from tests.support.attention_reference import (
    SIZES,
    WIDTH,
    bias_of,
    encoded,
    may_see,
    pairwise,
    randomised,
)


def hstu(layer: HSTULayer, x: Tensor, ago: Tensor, may: Tensor) -> Tensor:
    u, q, v, k = functional.silu(layer.project(layer.norm(x))).chunk(4, 1)
    bias, d = bias_of(layer.bias, ago), x.shape[1] // layer.heads
    parts = [slice(h * d, (h + 1) * d) for h in range(layer.heads)]
    mixed_ = (
        torch.cat([pairwise(q[:, p], k[:, p], v[:, p], bias[h], may) for h, p in enumerate(parts)], 1) / layer.length
    )
    return layer.out(layer.mixed_norm(mixed_) * u) + x  # type: ignore[no-any-return]


RULES: list[dict[str, Any]] = [
    {},
    {"band": 3},
    {"band": 1, "columns": 2},
    {"band": 3, "columns": 2, "columns_at": "newest"},
    {"band": 2, "columns": 50},
    {"bias": ["time"]},
    {"bias": []},
    {"band": 50, "columns": 2},
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_hstu(sizes: tuple[int, ...], rules: dict[str, Any]) -> None:
    stack = randomised(HSTUStack(WIDTH, 2, 10, 3, **rules))
    fast, alone = encoded(stack, sizes)
    own = {"band": rules.get("band"), "columns": rules.get("columns", 0), "at": rules.get("columns_at", "oldest")}
    for state, (x, ago) in zip(fast, alone, strict=True):
        may = may_see(len(x), **own)
        for layer in (*stack.layers, stack.closing):
            x = hstu(layer, x, ago, may)
        torch.testing.assert_close(state, x[-1])


@pytest.mark.parametrize("newest_layers", [1, 2])
def test_truncated_hstu_goes_on_with_the_newest(newest_layers: int) -> None:
    stack = randomised(HSTUStack(WIDTH, 2, 10, 2, newest_layers, 4))
    fast, alone = encoded(stack, (3, 1, 2))
    for state, (x, ago) in zip(fast, alone, strict=True):
        for number, layer in enumerate((*stack.layers, stack.closing)):
            if number == 2:
                x, ago = x[-5:], ago[-5:]
            x = hstu(layer, x, ago, may_see(len(x)))
        torch.testing.assert_close(state, x[-1])


def test_recomputed_layers_learn_the_same() -> None:
    grads = []
    for recompute in (False, True):
        stack = randomised(HSTUStack(WIDTH, 2, 10, 3, recompute=recompute))
        torch.manual_seed(1)
        encoded(stack, (3, 1, 2))[0].square().sum().backward()
        grads.append([p.grad.clone() for p in stack.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) and all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
