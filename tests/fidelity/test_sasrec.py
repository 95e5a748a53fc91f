"""SASRec (1808.09781), equations 1 to 4 and section 3.3, pair by pair: one candidate behind the items of its user.

1   E = sqrt(d) M + P, the factor from the paper's code
2   softmax(Q K^T / sqrt(d)) V, Q, K and V linear in E, no item later than the query
4   FFN(S) = ReLU(S W1 + b1) W2 + b2
3.3 x + g(LayerNorm(x)), around attention and feed-forward part
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from recdistill.models.encoders.packed import sequences
from recdistill.models.encoders.transformer import TransformerStack
from recdistill.typing import Array
from tests.fidelity.numbers import layer_norm, linear, number, randomised, softmax

D, N = 6, 5


def block_of(block: Any, x: list[Array]) -> list[Array]:
    parts = [np.split(linear(block.project, layer_norm(block.first, row)), 3) for row in x]
    out = []
    for i, row in enumerate(x):
        weights = softmax(np.array([parts[i][0] @ parts[j][1] / math.sqrt(D) for j in range(i + 1)]))
        s = row + linear(block.out, sum(w * parts[j][2] for j, w in enumerate(weights)))
        inner = np.maximum(0, linear(block.ffn[0], layer_norm(block.second, s)))
        out.append(s + linear(block.ffn[2], inner))
    return out


def test_equations_1_to_4() -> None:
    stack: Any = randomised(TransformerStack(D, 1, 9, 2, "sasrec", "pre"))
    rows = np.random.default_rng(1).normal(size=(N + 1, D))
    at, _ = sequences(torch.tensor([N]), torch.zeros(N, dtype=torch.int64), torch.zeros(N, dtype=torch.int64))
    fast = stack(torch.from_numpy(rows[None, :N]), torch.from_numpy(rows[None, N:]), at)
    x = [math.sqrt(D) * row + number(stack.places)[N - i] for i, row in enumerate(rows)]
    for block in (*stack.layers, stack.closing):
        x = block_of(block, x)
    np.testing.assert_allclose(number(fast)[0, 0], x[-1], rtol=1e-9)
