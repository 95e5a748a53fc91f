"""Attention and layers written out pair by pair in float64: what the fast forms are compared with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.models.attention.request_layout import lay_out
from recdistill.models.encoders.packed import Sequences
from recdistill.models.encoders.position_bias import RelativeBias
from recdistill.models.encoders.transformer import TransformerLayer, rotated
from tests.support.batches import make_batch

__all__ = [
    "SIZES",
    "WIDTH",
    "bias_of",
    "bucket",
    "encoded",
    "may_see",
    "pairwise",
    "randomised",
    "seen",
    "transformer_layer",
]

WIDTH = 8  # of an event
SIZES = [(3, 1, 2), (1, 1, 1), (9, 1, 1)]  # samples of each request


def seen(i: int, j: int, length: int, band: int | None = None, columns: int = 0, at: str = "oldest") -> bool:
    """Return whether event i of a history of `length` may look at event j."""
    near = band is None or i - j < band
    column = j < columns if at == "oldest" else j >= length - columns
    return j <= i and (near or column)


def pairwise(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, may: Tensor, softmax: bool = False) -> Tensor:
    """Return [n, d] of query [n, e], key [m, e], value [m, d], bias [n, m], may: bool [n, m]."""
    scores = query.double() @ key.double().T + bias.double()
    if softmax:
        weights = scores.masked_fill(~may, -torch.inf).softmax(1)
    else:
        weights = torch.nn.functional.silu(scores) * may
    return weights @ value.double()


def randomised(module: nn.Module) -> Any:
    """The module in float64, no part of it zero or one."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def encoded(
    stack: Any, sizes: tuple[int, ...], lengths: tuple[int, ...] = (4, 0, 9)
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Return (what the stack makes of each sample, its [history..., candidate], their us before it, and its user).

    The user is there for stacks that read one.
    """
    batch = make_batch(sizes, lengths)
    rows = torch.randn(len(batch.history.unique), WIDTH).double()
    rows[0] = 0
    candidates, layout = torch.randn(len(batch), WIDTH).double(), lay_out(batch.history)
    at, order = Sequences.of(layout)
    events = layout.events(rows)
    users = torch.randn(len(lengths), WIDTH).double()
    given = [layout.group(candidates), at, *[users if order is None else users[order]] * stack.reads_user]
    states = layout.ungroup(stack(events if order is None else events[order], *given))
    alone: list[tuple[Tensor, ...]] = []
    for b, r in enumerate(batch.history.of.tolist()):
        span = slice(int(batch.history.offsets[r]), int(batch.history.offsets[r + 1]))
        ago = torch.cat([batch.history.ago[span], torch.zeros(1, dtype=torch.int64)])
        x = torch.cat([rows[batch.history.index[span]], candidates[b : b + 1]])
        alone.append((x, ago, *[users[r]] * stack.reads_user))
    return states, alone


def bucket(us: int) -> int:
    """HSTU's public code: floor(ln(seconds) / 0.301), a second at least."""
    return min(71, int(math.log(max(1.0, us / 1e6)) / 0.301))


def bias_of(bias: RelativeBias, ago: Tensor) -> Tensor:
    """[H, n, n], pair by pair."""
    n, zero = len(ago), torch.zeros(bias.heads, 72, dtype=torch.float64)
    position = torch.zeros(bias.heads, n + 1) if bias.position is None else bias.position
    time = zero if bias.time is None else bias.time
    pairs = [
        [
            position[:, min(max(i - j, 0), position.shape[1] - 1)] + time[:, bucket(int(ago[j] - ago[i]))]
            for j in range(n)
        ]
        for i in range(n)
    ]
    return torch.stack([torch.stack(row) for row in pairs]).permute(2, 0, 1)


def may_see(n: int, **rules: Any) -> Tensor:
    """bool [n, n]: the target, last, sees everything; events by the rules, as if it were not there."""
    return torch.tensor([[i == n - 1 or seen(i, j, n - 1, **rules) for j in range(n)] for i in range(n)])


def transformer_layer(layer: TransformerLayer, x: Tensor, ago: Tensor, may: Tensor) -> Tensor:
    before, places = layer.before, torch.arange(len(x))
    q, k, v = layer.project(layer.first(x) if before else x).chunk(3, 1)
    bias, d, heads = bias_of(layer.bias, ago), x.shape[1] // layer.heads, []
    for h in range(layer.heads):
        a, b, c = (part[:, h * d : (h + 1) * d] for part in (q, k, v))
        if layer.rotary:
            a, b = rotated(a, places), rotated(b, places)
        heads.append(pairwise(a * d**-0.5, b, c, bias[h], may, softmax=True))
    added = x + layer.out(torch.cat(heads, 1))
    if before:
        return added + layer.ffn(layer.second(added))  # type: ignore[no-any-return]
    added = layer.first(added)
    return layer.second(added + layer.ffn(added))  # type: ignore[no-any-return]
