"""Softmax blocks equal the written-out ones: a candidate passes them as if it alone were appended."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recdistill.models.encoders.transformer import TransformerStack, rotated
from tests.support.attention_reference import (
    SIZES,
    WIDTH,
    encoded,
    may_see,
    randomised,
    transformer_layer,
)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("residual", ["pre", "post"])
@pytest.mark.parametrize(
    ("block", "bias", "band"), [("llama", [], None), ("sasrec", [], None), ("sasrec", ["position", "time"], 3)]
)
def test_transformer(sizes: tuple[int, ...], residual: Any, block: Any, bias: list[str], band: int | None) -> None:
    stack = randomised(TransformerStack(WIDTH, 2, 10, 3, block, residual, bias, band))
    fast, alone = encoded(stack, sizes)
    for state, (x, ago) in zip(fast, alone, strict=True):
        if stack.places is not None:
            x = x * WIDTH**0.5 + stack.places[torch.arange(len(x)).flip(0)]
        for layer in (*stack.layers, stack.closing):
            x = transformer_layer(layer, x, ago, may_see(len(x), band=band))
        torch.testing.assert_close(state, x[-1])


def test_rotation_knows_distances_alone() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 8).double()
    one = [rotated(part, torch.arange(5)) for part in (a, b)]
    other = [rotated(part, torch.arange(5) + 7) for part in (a, b)]
    torch.testing.assert_close(one[0] @ one[1].T, other[0] @ other[1].T, rtol=1e-4, atol=1e-4)
