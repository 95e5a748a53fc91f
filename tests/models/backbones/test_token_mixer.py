"""Token mixing equals the written-out one, token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recdistill.models.backbones.token_mixer import TokenMixer
from recdistill.models.layers.experts import SparseSwiGLU
from tests.support.attention_reference import (
    randomised,
)


def large(mixer: TokenMixer, x: Tensor) -> Tensor:
    """One sample's features through TokenMixer-Large, token by token."""
    tokens = [mixer.summary(x), *made(mixer, x)]  # type: ignore[misc]
    earlier = tokens

    def swiglu(part: Any, token: int, y: Tensor) -> Tensor:
        gate, up = (y @ part.up[token]).chunk(2)
        return (functional.silu(gate) * up) @ part.down[token]  # type: ignore[no-any-return]

    for number, layer in enumerate(mixer.layers):
        normed, d = [layer.first(t) for t in tokens], mixer.width // layer.heads
        heads = [
            swiglu(layer.across, h, torch.cat([t[h * d : (h + 1) * d] for t in normed])) for h in range(layer.heads)
        ]
        tokens = [t + torch.cat([head[i * d : (i + 1) * d] for head in heads]) for i, t in enumerate(tokens)]
        tokens = [t + swiglu(layer.within, i, layer.second(t)) for i, t in enumerate(tokens)]
        if number % 2:
            tokens = earlier = [t + e for t, e in zip(tokens, earlier, strict=True)]
    return torch.stack([mixer.last(t) for t in tokens]).mean(0)  # type: ignore[misc]


def made(mixer: TokenMixer, x: Tensor) -> list[Tensor]:
    """The tokens of one sample's features: each of all of them, or each of a part of one length."""
    if isinstance(mixer.enter, torch.nn.Linear):
        return list(mixer.enter(x).split(mixer.width))
    tokens, size = len(mixer.enter.weight), len(mixer.enter.weight[0])  # type: ignore[arg-type]
    padded = torch.cat([x, torch.zeros(tokens * size - len(x)).double()])
    return [
        padded[t * size : (t + 1) * size] @ mixer.enter.weight[t] + mixer.enter.bias[t, 0]  # type: ignore[index]
        for t in range(tokens)
    ]


@pytest.mark.parametrize("grouping", ["learned", "semantic"])
@pytest.mark.parametrize("heads", [2, 4, 8])
def test_token_mixer_large(heads: int, grouping: Any) -> None:
    mixer = randomised(TokenMixer(6, tokens=5, width=8, layers=4, heads=heads, grouping=grouping))
    x = torch.randn(3, 6).double()
    torch.testing.assert_close(mixer(x), torch.stack([large(mixer, row) for row in x]))


def test_both_feed_forward_parts_have_experts() -> None:
    (layer,) = TokenMixer(6, tokens=4, width=8, layers=1, heads=2, experts=3).layers
    assert isinstance(layer.across, SparseSwiGLU) and isinstance(layer.within, SparseSwiGLU)
    assert layer.across.router.shape == (2, 16, 3) and layer.within.router.shape == (4, 8, 3)


@pytest.mark.parametrize("grouping", ["learned", "semantic"])
def test_rankmixer(grouping: Any) -> None:
    mixer = randomised(TokenMixer(6, tokens=4, width=8, layers=2, variant="rankmixer", grouping=grouping))
    x = torch.randn(3, 6).double()
    for row, fast in zip(x, mixer(x), strict=True):
        tokens = torch.stack(made(mixer, row))
        for layer in mixer.layers:
            swapped = tokens.view(4, 4, 2).transpose(0, 1).reshape(4, 8)
            s = layer.first(swapped + tokens)
            ffn = torch.stack([functional.gelu(s[t] @ layer.ffn.up[t]) @ layer.ffn.down[t] for t in range(4)])
            tokens = layer.second(ffn + s)
        torch.testing.assert_close(fast, tokens.mean(0))
