"""Attention between candidates and histories as pure functions; nothing of shape [B, L, D] is ever made.

Shapes as in request_layout.py: P groups, C candidates of a group, L events, D width, H heads, d = D / H, N hidden
units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["EMPTY", "dots", "first_unit_layer", "sigmoid_unit", "split_heads", "weighted_sum"]

EMPTY = -1e4  # the score of what may not be seen: its exponential, its SiLU, and their slopes are exactly zero
SLAB = 1 << 18  # hidden units worked on at a time: 1 MiB, which a cache holds from the first product to the last


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


def _affine(query: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return (constant [P, 1, C * N], matrix [P, C * N, D]) of DIN's first layer, see `first_unit_layer`."""
    w_q, w_k, w_d, w_p = weight.chunk(4, dim=1)
    groups, _, width = query.shape
    matrix = torch.addcmul(w_k - w_d, w_p, query.unsqueeze(2)).view(groups, -1, width)
    return functional.linear(query, w_q + w_d, bias).view(groups, 1, -1), matrix


def first_unit_layer(query: Tensor, events: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return [P, L, C, N], the first layer of DIN's activation unit on [q, k, q - k, q * k] (1706.06978, figure 2).

    query [P, C, D], events [P, L, D], weight [N, 4 D] = [Wq Wk Wd Wp], bias [N]. The layer is linear in k once q is
    known: (Wq + Wd) q + (Wk - Wd + Wp diag(q)) k, so that one product per group replaces four per pair.
    """
    constant, matrix = _affine(query, weight, bias)
    x = torch.baddbmm(constant, events, matrix.transpose(1, 2))
    return x.view(query.shape[0], events.shape[1], query.shape[1], -1)


class _SigmoidUnit(torch.autograd.Function):
    """Return [P, L, C]: sigmoid(constant + events matrix^T) last, for last [N], in slabs of groups."""

    @staticmethod
    def forward(ctx: Any, constant: Tensor, matrix: Tensor, events: Tensor, last: Tensor) -> Tensor:
        groups, length, units = len(events), events.shape[1], constant.shape[2]
        hidden = events.new_empty(groups, length, units)
        weights = events.new_empty(groups, length, units // len(last))
        for k in _slabs(hidden):
            torch.baddbmm(constant[k], events[k], matrix[k].transpose(1, 2), out=hidden[k]).sigmoid_()
            torch.mv(hidden[k].view(-1, len(last)), last, out=weights[k].view(-1))
        ctx.save_for_backward(matrix, events, last, hidden)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        grad = grad.contiguous()
        matrix, events, last, hidden = ctx.saved_tensors
        to_constant = events.new_empty(len(events), 1, hidden.shape[2])
        to_matrix, to_events, to_last = torch.empty_like(matrix), torch.empty_like(events), torch.zeros_like(last)
        for k in _slabs(hidden):
            h, e = hidden[k], events[k]
            to_last.addmv_(h.view(-1, len(last)).t(), grad[k].view(-1))
            x = (grad[k].unsqueeze(3) * last).view_as(h)
            torch.ops.aten.sigmoid_backward.grad_input(x, h, grad_input=x)
            torch.sum(x, 1, keepdim=True, out=to_constant[k])
            torch.bmm(x.transpose(1, 2), e, out=to_matrix[k])
            torch.bmm(x, matrix[k], out=to_events[k])
        return to_constant, to_matrix, to_events, to_last


def _slabs(hidden: Tensor) -> Iterator[slice]:
    step = max(1, SLAB // max(1, hidden[0].numel()))
    return (slice(low, low + step) for low in range(0, len(hidden), step))


def sigmoid_unit(query: Tensor, events: Tensor, weight: Tensor, bias: Tensor, last: Tensor) -> Tensor:
    """Return [P, L, C], sigmoid(first_unit_layer(...)) last for last [N], faster to learn through."""
    constant, matrix = _affine(query, weight, bias)
    return torch.as_tensor(_SigmoidUnit.apply(constant, matrix, events, last))  # type: ignore[no-untyped-call]
