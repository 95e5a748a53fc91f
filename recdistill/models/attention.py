"""Attention between candidates and histories as pure functions; nothing of shape [B, L, D] is ever made.

Letters as in layout.py: P groups, C candidates of a group, L events, D width, H heads, d = D / H, N hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["EMPTY", "dots", "first_unit_layer", "gap_buckets", "pointwise", "split_heads", "weighted_sum"]

EMPTY = -1e4  # the score of padding: exp(EMPTY) is exactly zero


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return [P * H, n, d] of [P, n, D]."""
    if heads == 1:
        return x
    groups, n, width = x.shape
    return x.view(groups, n, heads, width // heads).transpose(1, 2).reshape(groups * heads, n, width // heads)


def dots(candidates: Tensor, events: Tensor) -> Tensor:
    """Return [P, C, L], every candidate's dot product with every event: [P, C, d], [P, L, d]."""
    return torch.bmm(candidates, events.transpose(1, 2))


def weighted_sum(weights: Tensor, events: Tensor) -> Tensor:
    """Return [P, K, d], sums of events [P, L, d] under weights [P, L, K]."""
    return torch.bmm(weights.transpose(1, 2), events)


def first_unit_layer(query: Tensor, events: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return [P, L, C, N], the first layer of DIN's activation unit on [q, k, q - k, q * k] (1706.06978, figure 2).

    query [P, C, D], events [P, L, D], weight [N, 4 D] = [Wq Wk Wd Wp], bias [N]. The layer is linear in k once q is
    known: (Wq + Wd) q + (Wk - Wd + Wp diag(q)) k, so that one product per group replaces four per pair.
    """
    w_q, w_k, w_d, w_p = weight.chunk(4, dim=1)
    groups, size, width = query.shape
    matrix = torch.addcmul(w_k - w_d, w_p, query.unsqueeze(2)).view(groups, -1, width)
    constant = functional.linear(query, w_q + w_d, bias).view(groups, 1, -1)
    return torch.baddbmm(constant, events, matrix.transpose(1, 2)).view(groups, events.shape[1], size, -1)


def gap_buckets(ages: int) -> Tensor:
    """Return int64 [ages, ages]: log2 bucket of the gap between an event of age bucket i and an older one of bucket j.

    Buckets stand for the middle of their range; events of one bucket are bucket 0 apart.
    """
    middle = torch.cat([torch.zeros(1, dtype=torch.float64), 1.5 * 2.0 ** torch.arange(ages - 1, dtype=torch.float64)])
    gap = (middle[None, :] - middle[:, None]).clamp(min=0)
    return torch.where(gap < 1, 0, gap.clamp(min=1).log2().floor().long() + 1).clamp(max=ages - 1)


def pointwise(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Return [P, n, d], HSTU's attention (2402.17152, equation 3): mask * SiLU(Q K^T + bias) V.

    query [P, n, d], key and value [P, m, d], bias [P, n or 1, m], mask [P, n or 1, m]: 1 / length or 0.
    """
    scores = torch.baddbmm(bias, query, key.transpose(1, 2))
    return torch.bmm(functional.silu(scores) * mask, value)
