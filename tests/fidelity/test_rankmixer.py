"""RankMixer (2507.15551) and TokenMixer-Large (2602.06563) from independent notes of their texts, token by token.

RankMixer, "Token Mixing" and "Per-token FFN": S = LN(mix(X) + X), X' = LN(PFFN(S) + S), the mean of the tokens at the
end; "ReLU routing": G_ij = ReLU(h(s_i))_j, v_i = sum over j of G_ij e_ij(s_i), L = L_task + weight * sum of G; two
routers in training, of which h_infer alone has the regulariser and alone predicts (DTSI).
TokenMixer-Large, "mixing and reverting": H = X + revert(SwiGLU(mix(RMSNorm X))); then, on which notes disagree, H or X
plus SwiGLU(RMSNorm H).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from recdistill.models.backbones.token_mixer import TokenMixer
from recdistill.models.layers.experts import ReLUExperts
from recdistill.typing import Array
from tests.fidelity.numbers import layer_norm, linear, number, randomised, rms_norm, silu

T, D, B, EXPERTS = 4, 8, 6, 3
erf = np.vectorize(math.erf)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def ffn(part: Any, x: Array, token: int) -> Array:
    return gelu(x @ number(part.up)[token]) @ number(part.down)[token]


def swiglu(part: Any, x: Array, token: int) -> Array:
    gate, up = np.split(x @ number(part.up)[token], 2)
    return (silu(gate) * up) @ number(part.down)[token]


def routed(part: Any, s: Array, token: int, router: Any) -> Array:
    gates = np.maximum(0, s @ number(router)[token])
    return sum((gates[j] * ffn(part.experts[j], s, token) for j in range(EXPERTS)), np.zeros(D))


def rankmixer(mixer: Any, x: Array, route: str) -> Array:
    tokens = np.split(linear(mixer.enter, x), T)
    for block in mixer.layers:
        d = D // T
        mixed = [np.concatenate([t[h * d : (h + 1) * d] for t in tokens]) for h in range(T)]
        s = [layer_norm(block.first, m + t) for m, t in zip(mixed, tokens, strict=True)]
        if route:
            v = [routed(block.ffn, row, t, getattr(block.ffn, route)) for t, row in enumerate(s)]
        else:
            v = [ffn(block.ffn, row, t) for t, row in enumerate(s)]
        tokens = [layer_norm(block.second, a + b) for a, b in zip(v, s, strict=True)]
    return np.mean(tokens, 0)


@pytest.mark.parametrize("experts", [0, EXPERTS], ids=["one FFN", "ReLU routing"])
def test_rankmixer_predicts(experts: int) -> None:
    mixer = randomised(TokenMixer(5, tokens=T, width=D, layers=2, variant="rankmixer", experts=experts))
    x = np.random.default_rng(1).normal(size=(B, 5))
    with torch.no_grad():
        found = number(mixer(torch.from_numpy(x)))
    np.testing.assert_allclose(found, [rankmixer(mixer, row, "router" if experts else "") for row in x], rtol=1e-6)


def test_rankmixer_learns_by_both_routers() -> None:
    """Our reading of DTSI: every second sample by the training router, the regulariser on the other's gates alone."""
    mixer = randomised(TokenMixer(5, tokens=T, width=D, layers=1, variant="rankmixer", experts=EXPERTS))
    x = np.random.default_rng(1).normal(size=(B, 5))
    found = number(mixer(torch.from_numpy(x)))
    expected = [rankmixer(mixer, row, ("router", "training_router")[at % 2]) for at, row in enumerate(x)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_regulariser_is_the_sum_of_the_gates_and_finds_its_weight() -> None:
    part: Any = randomised(ReLUExperts(T, D, 6, EXPERTS, 1))
    part.weight.fill_(0.5)
    s = np.random.default_rng(1).normal(size=(T, B, D))
    part(torch.from_numpy(s))
    gates = np.stack([[np.maximum(0, s[t, b] @ number(part.router)[t]) for t in range(T)] for b in range(0, B, 2)])
    assert part.taken().item() == pytest.approx(0.5 * gates.sum(2).mean(), rel=1e-9)
    too_many = (gates > 0).mean() > 1 / EXPERTS
    assert too_many and float(part.weight) == pytest.approx(0.5 * 1.2)
    part.router.data.fill_(0)
    part(torch.from_numpy(s))
    assert float(part.weight) == pytest.approx(0.5)  # none taken: down by as much


@pytest.mark.parametrize("residual", ["mixed", "input"])
def test_tokenmixer_large(residual: Any) -> None:
    mixer: Any = randomised(TokenMixer(5, tokens=T, width=D, layers=1, heads=2, residual=residual))
    rows = np.random.default_rng(1).normal(size=(B, 5))
    (block,) = mixer.layers
    for x, found in zip(rows, number(mixer(torch.from_numpy(rows))), strict=True):
        tokens = [linear(mixer.summary, x), *np.split(linear(mixer.enter, x), T - 1)]
        normed, d = [rms_norm(block.first, t) for t in tokens], D // 2
        heads = [swiglu(block.across, np.concatenate([t[h * d : (h + 1) * d] for t in normed]), h) for h in range(2)]
        back = [np.concatenate([head[t * d : (t + 1) * d] for head in heads]) for t in range(T)]
        h = [t + b for t, b in zip(tokens, back, strict=True)]
        start = h if residual == "mixed" else tokens
        out = [start[t] + swiglu(block.within, rms_norm(block.second, h[t]), t) for t in range(T)]
        np.testing.assert_allclose(found, np.mean([rms_norm(mixer.last, t) for t in out], 0), rtol=1e-6)
