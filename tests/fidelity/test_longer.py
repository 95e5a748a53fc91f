"""LONGER (2505.04421) from independent notes of its text, token by token; they give no numbers of equations.

- An event is its embedding with its absolute place and the time from it to the target.
- Token merge: K adjacent events are one token, after a transformer layer among themselves (InnerTrans).
- Global tokens (user, CLS, target) have a full view; the events' is causal. Here no event sees a global token, nor any
  other token the target, so that the notes' order of the first two is taken as: behind the events.
- Cross-causal attention: the global tokens and the newest k tokens query all tokens; then self-causal layers among
  those.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from recdistill.models.encoders.longer import LongerStack
from recdistill.models.encoders.packed import sequences
from recdistill.typing import Array
from tests.fidelity.numbers import linear, number, randomised, rms_norm, silu, softmax

D, K, N, QUERIES, HEADS = 4, 2, 8, 2, 2


def swiglu(part: Any, x: Array) -> Array:
    gate, up = np.split(linear(part.up, x), 2)
    return linear(part.down, silu(gate) * up)


def inner_of(inner: Any, events: list[Array]) -> Array:
    qkv = [np.split(linear(inner.project, rms_norm(inner.first, x)), 3) for x in events]
    out = []
    for i, x in enumerate(events):
        weights = softmax(np.array([qkv[i][0] @ k / math.sqrt(D) for _, k, _ in qkv]))
        y = x + linear(inner.out, sum(w * v for w, (_, _, v) in zip(weights, qkv, strict=True)))
        out.append(y + swiglu(inner.ffn, rms_norm(inner.second, y)))
    token = np.concatenate(out)
    return (token - token.mean()) / np.sqrt(token.var() + 1e-5)  # so that rows that start small are not drowned


def attended(part: Any, i: int, q: Array, k: list[Array], v: list[Array], x: Array) -> Array:
    """Return token i after attention to the tokens that are not newer, and the feed-forward part."""
    d, heads = len(q) // HEADS, []
    for h in range(HEADS):
        own = slice(h * d, (h + 1) * d)
        weights = softmax(np.array([q[own] @ k[j][own] / math.sqrt(d) for j in range(i + 1)]))
        heads.append(sum(w * v[j][own] for j, w in enumerate(weights)))
    y = x + linear(part.out, np.concatenate(heads))
    return y + swiglu(part.ffn, rms_norm(part.second, y))


def turned(x: Array, place: int) -> Array:
    """RoPE per head, of the self-causal layers."""
    out = []
    for part in np.split(x, HEADS):
        a, b = np.split(part, 2)
        angle = place * 10000.0 ** (-np.arange(len(a)) / len(a))
        out += [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)]
    return np.concatenate(out)


def self_causal(layer: Any, x: list[Array]) -> list[Array]:
    qkv = [np.split(linear(layer.project, rms_norm(layer.first, row)), 3) for row in x]
    k, v = [turned(part[1], at) for at, part in enumerate(qkv)], [part[2] for part in qkv]
    return [attended(layer, i, turned(qkv[i][0], i), k, v, row) for i, row in enumerate(x)]


def test_every_token() -> None:
    """Oldest first: a token sees those before it, and the global tokens come last."""
    stack: Any = randomised(LongerStack(D, HEADS, 9, 2, K, QUERIES))
    draw = np.random.default_rng(1)
    rows, user = draw.normal(size=(N + 1, D)), draw.normal(size=D)
    ago = np.sort(10 ** draw.uniform(0, 7, N))[::-1]
    at, _ = sequences(torch.tensor([N]), torch.from_numpy((ago * 1e6).astype(np.int64)), torch.zeros(N).long())
    fast = stack(
        *(torch.from_numpy(part) for part in (rows[None, :N], rows[None, N:])), at, torch.from_numpy(user[None])
    )
    events = [
        rows[i] + number(stack.places)[N - 1 - i] + number(stack.times)[int(math.log(ago[i]) / 0.301)] for i in range(N)
    ]
    tokens = [inner_of(stack.inner, events[at : at + K]) for at in range(0, N, K)]
    tokens += [linear(stack.user, user), number(stack.summary), linear(stack.enter, rows[N])]
    cross = stack.cross
    k, v = zip(*(np.split(linear(cross.pair, rms_norm(cross.before_k, x)), 2) for x in tokens), strict=True)
    queries = [linear(cross.query, rms_norm(cross.before_q, x)) for x in tokens]
    first = len(tokens) - QUERIES - 3
    x = [attended(cross, i, queries[i], k, v, tokens[i]) for i in range(first, len(tokens))]
    for layer in (*stack.layers, stack.closing):
        x = self_causal(layer, x)
    np.testing.assert_allclose(number(fast)[0, 0], x[-1], rtol=1e-6)  # RoPE's angles are float32
