"""HSTU (2402.17152), equations 1 to 3, and the relative bias of its public code, written out pair by pair.

1   U, V, Q, K = split(SiLU(f1(Norm X)))
2   A V = SiLU(Q K^T + rab_position + rab_time) V, divided by the longest length in the public code
3   Y = f2(Norm(A V) * U) + X
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from recdistill.models.encoders.hstu import HSTUStack
from recdistill.models.encoders.packed import sequences
from recdistill.typing import Array
from tests.fidelity.numbers import layer_norm, linear, number, randomised, silu

D, H, N, LONGEST = 6, 2, 7, 11


def layer_of(layer: Any, x: list[Array], seconds: list[float]) -> list[Array]:
    """Events and candidate, in order, each with its time; the last one is the candidate."""
    values, keys = layer.sizes[0] // H, layer.sizes[1] // H
    parts = []
    for row in x:
        found = silu(linear(layer.project, layer_norm(layer.norm, row)))
        u, rest = found[: H * values], found[H * values :]
        q, rest = rest[: H * keys], rest[H * keys :]
        v, k = rest[: H * values], rest[H * values :]
        parts.append((u, q, v, k))
    out = []
    for i, (u, q, _, _) in enumerate(parts):
        attended = np.zeros(H * values)
        for h in range(H):
            own, theirs = slice(h * keys, (h + 1) * keys), slice(h * values, (h + 1) * values)
            for j in range(i + 1):
                gap = max(1.0, seconds[i] - seconds[j])
                rab = number(layer.bias.position)[h, i - j] + number(layer.bias.time)[h, int(math.log(gap) / 0.301)]
                attended[theirs] += silu(q[own] @ parts[j][3][own] + rab) * parts[j][2][theirs] / LONGEST
        out.append(linear(layer.out, layer_norm(layer.mixed_norm, attended) * u) + x[i])
    return out


@pytest.mark.parametrize("widths", [{}, {"key_width": 2, "value_width": 4}], ids=["one width", "two widths"])
def test_equations_1_to_3(widths: dict[str, int]) -> None:
    stack: Any = randomised(HSTUStack(D, H, LONGEST, 2, **widths))
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(N + 1, D))
    seconds = [*np.sort(draw.uniform(0, 10 ** draw.uniform(0, 7, N))), 10.0**7]
    ago = torch.tensor([round((seconds[-1] - one) * 1e6) for one in seconds[:-1]])
    at, _ = sequences(torch.tensor([N]), ago, torch.zeros(N, dtype=torch.int64))
    fast = stack(torch.from_numpy(rows[None, :N]), torch.from_numpy(rows[None, N:]), at)
    x = list(rows)
    for layer in (*stack.layers, stack.closing):
        assert layer.norm.eps == layer.mixed_norm.eps == 1e-6  # of the public code
        x = layer_of(layer, x, seconds)
    np.testing.assert_allclose(number(fast)[0, 0], x[-1], rtol=1e-9)
