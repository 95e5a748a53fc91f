"""HSTU (2402.17152) with candidates as targets: each sees its history and itself, never another candidate.

A history is encoded once, whoever looks at it; a candidate then passes the layers as if it alone were appended to it.
Letters as in layout.py; H heads, d = D / H.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.data.batch import AGES, Batch
from recdistill.errors import UserError
from recdistill.models.attention import gap_buckets, pointwise
from recdistill.models.blocks import MLP, EventActions, SideFeatures, item_std, new_table
from recdistill.models.layout import Layout, lay_out
from recdistill.models.table import TableOptions

__all__ = ["HSTU", "HSTULayer"]


class HSTULayer(nn.Module):
    """U, V, Q, K = SiLU(f1(LN(x))); y = f2(LN(A V) * U) + x, A = SiLU(Q K^T + position + time) / length, causal."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads, self.length = heads, length
        self.norm, self.mixed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.position = nn.Parameter(torch.zeros(heads, length + 1))  # by how many events apart
        self.time = nn.Parameter(torch.zeros(heads, AGES))  # by log2 bucket of the seconds apart

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return u [..., n, D] and v, q, k [..., H, n, d]."""
        u, v, q, k = functional.silu(self.project(self.norm(x))).chunk(4, -1)
        v, q, k = (part.view(*part.shape[:-1], self.heads, -1).transpose(-2, -3) for part in (v, q, k))
        return u, v, q, k

    def _bias(self, apart: Tensor, gap: Tensor) -> Tensor:
        """Return [n, H, ...] position and time bias: both arguments int64 [n or 1, ...]."""
        return (self.position[:, apart.clamp(max=self.length)] + self.time[:, gap]).transpose(0, 1)

    def _close(self, x: Tensor, u: Tensor, mixed: Tensor) -> Tensor:
        mixed = mixed.transpose(-2, -3).flatten(-2)
        return torch.as_tensor(self.out(self.mixed_norm(mixed) * u) + x)

    def forward(self, events: Tensor, targets: Tensor, layout: Layout, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """Return (events [R, L, D], targets [P, C, D]) after the layer."""
        u, v, q, k = self._project(events)
        step = torch.arange(events.shape[1])
        apart = (step[:, None] - step)[None]
        seen = (apart >= 0).unsqueeze(1)
        bias = self._bias(apart.clamp(min=0), gaps[layout.age[:, :, None], layout.age[:, None, :]])
        mixed = pointwise(q, k, v, bias, seen & layout.mask[:, None, None, :], self.length)
        return self._close(events, u, mixed), self._targets(targets, k, v, layout)

    def _targets(self, targets: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attend from each target to its history's keys and to its own."""
        u, own_v, q, own_k = self._project(targets)  # [P, C, D], [P, H, C, d]
        apart = (layout.lengths[:, None] - torch.arange(k.shape[2])).clamp(min=0)
        bias = layout.pieces(self._bias(apart, layout.age)).unsqueeze(2)
        mask = layout.pieces(layout.mask)[:, None, None, :]
        mixed = pointwise(q, layout.pieces(k), layout.pieces(v), bias, mask, self.length)
        zero = self._bias(apart.new_zeros(1), apart.new_zeros(1)).view(1, self.heads, 1)
        own = functional.silu((q * own_k).sum(-1) + zero).unsqueeze(-1) * own_v / self.length
        return self._close(targets, u, mixed + own)


class HSTU(nn.Module):
    """`layers` of HSTU over history and candidate (one item table), then an MLP with the side features.

    `length` is the constant that attention is divided by and the largest distance with a position bias of its own.
    """

    def __init__(self, width: int, *, fields: int, slots: int, actions: int, length: int, layers: int = 2,
                 heads: int = 1, hidden: Sequence[int] = (64, 32), context_width: int = 8,
                 tables: TableOptions) -> None:  # fmt: skip
        super().__init__()
        if width % heads:
            raise UserError(f"hstu: width {width} is not a multiple of heads {heads}; change one of them")
        self.item = new_table("item", width, item_std(width), tables)
        self.actions = EventActions(actions, width)
        self.side = SideFeatures(width, context_width, fields, slots, tables)
        self.layers = nn.ModuleList(HSTULayer(width, heads, length) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.gaps = gap_buckets(AGES)
        self.body = MLP(2 * width + self.side.width, hidden)
        self.output_width = self.body.output_width

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, output_width]."""
        layout = lay_out(batch.history)
        candidate = self.item(batch.item.unique).index_select(0, batch.item.inverse)
        events = self.actions(layout.events(self.item(batch.history.unique)), layout)
        targets = layout.group(candidate)
        for layer in self.layers:
            events, targets = layer(events, targets, layout, self.gaps)
        state = self.norm(layout.ungroup(targets))
        return torch.as_tensor(self.body(torch.cat([candidate, state, *self.side(batch)], 1)))
