"""HSTU equals the written-out one: a candidate passes the layers as if it alone were appended."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recdistill.models.encoders.hstu import HSTULayer, HSTUStack
from recdistill.models.encoders.packed import one_sequence
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
    u, q, v, k = functional.silu(layer.project(layer.norm(x))).split(layer.sizes, 1)
    bias, by_head = bias_of(layer.bias, ago), [part.chunk(layer.heads, 1) for part in (q, k, v)]
    mixed_ = torch.cat([pairwise(*parts, bias[h], may) for h, parts in enumerate(zip(*by_head, strict=True))], 1)
    return layer.out(layer.mixed_norm(mixed_ / layer.length) * u) + x  # type: ignore[no-any-return]


RULES: list[dict[str, Any]] = [
    {},
    {"band": 3},
    {"band": 1, "columns": 2},
    {"band": 3, "columns": 2, "columns_at": "newest"},
    {"band": 2, "columns": 50},
    {"bias": ["time"]},
    {"bias": []},
    {"band": 50, "columns": 2},
    {"key_width": 3, "value_width": 5},
    {"key_width": 6, "band": 3, "columns": 2, "columns_at": "newest"},
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


@pytest.mark.parametrize("rules", [{}, {"band": 2}, {"band": 2, "columns": 3}, {"band": 2, "columns_at": "newest"}])
def test_a_contextual_token_stands_in_front_and_long_ago(rules: dict[str, Any]) -> None:
    """With semi-local attention every event sees it, where the oldest are the columns."""
    stack = randomised(HSTUStack(WIDTH, 2, 12, 3, contextual=True, **rules))
    fast, alone = encoded(stack, (3, 1, 2))
    own = {"band": rules.get("band"), "columns": 0, "at": rules.get("columns_at", "oldest")}
    if own["at"] == "oldest":
        own["columns"] = max(1, rules.get("columns", 0))
    for state, (x, ago, user) in zip(fast, alone, strict=True):
        x, ago = torch.cat([user[None], x]), torch.cat([torch.tensor([1 << 60]), ago])
        for layer in (*stack.layers, stack.closing):
            x = hstu(layer, x, ago, may_see(len(x), **own))
        torch.testing.assert_close(state, x[-1])


def test_dropout_is_of_what_is_learned_alone() -> None:
    stack = randomised(HSTUStack(WIDTH, 2, 10, 2, dropout=0.5))

    def states() -> Tensor:
        torch.manual_seed(1)
        found = encoded(stack, (3, 1, 2))
        return found[0].detach()

    def learned(seed: int) -> Tensor:
        torch.manual_seed(1)
        x, targets, at = torch.randn(1, 4, WIDTH).double(), torch.randn(1, 1, WIDTH).double(), one_sequence(4)
        torch.manual_seed(seed)
        return stack(x, targets, at).detach()

    assert torch.equal(learned(1), learned(1)) and not torch.equal(learned(1), learned(2))
    with torch.no_grad():
        assert torch.equal(learned(1), learned(2))
        stack.eval()
        assert torch.equal(learned(1), learned(2)) and states().isfinite().all()


def test_recomputed_layers_learn_the_same() -> None:
    grads = []
    for recompute in (False, True):
        stack = randomised(HSTUStack(WIDTH, 2, 10, 3, recompute=recompute))
        torch.manual_seed(1)
        encoded(stack, (3, 1, 2))[0].square().sum().backward()
        grads.append([p.grad.clone() for p in stack.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) and all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
