"""HSTU (2402.17152) with candidates as targets: each sees its history and itself, never another candidate.

A history is encoded once, whoever looks at it; a candidate then passes the layers as if it alone were appended to it.
Letters as in layout.py; H heads, d = D / H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.data.batch import AGES, Batch
from recdistill.errors import UserError
from recdistill.models.attention import gap_buckets, pointwise
from recdistill.models.blocks import MLP, EventActions, SideFeatures, item_std, new_table
from recdistill.models.layout import Layout, lay_out
from recdistill.models.table import TableOptions

__all__ = ["HSTU", "Gaps", "HSTULayer"]


@dataclass(frozen=True)
class Gaps:
    """Between events i and j of a history: apart int64 [L, L], i - j; bucket int64 [R, L, L], log2 of the seconds.

    seen: float [R, L, L], 1 / length where i may look at j (causal, not padding), else 0.
    """

    apart: Tensor
    bucket: Tensor
    seen: Tensor

    @classmethod
    def of(cls, layout: Layout, table: Tensor, length: int, dtype: torch.dtype) -> Gaps:
        """Return the gaps of a batch; `table` is `gap_buckets`."""
        step, ages = torch.arange(layout.age.shape[1]), len(table)
        apart = step[:, None] - step
        code = layout.age[:, :, None] * ages + layout.age[:, None, :]
        bucket = table.view(-1).index_select(0, code.view(-1)).view(code.shape)
        return cls(apart, bucket, ((apart >= 0) & layout.mask[:, None, :]).to(dtype) / length)


class HSTULayer(nn.Module):
    """U, V, Q, K = SiLU(f1(LN(x))); y = f2(LN(A V) * U) + x, A = SiLU(Q K^T + position + time) / length, causal."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads, self.length = heads, length
        self.norm, self.mixed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.position = nn.Parameter(torch.zeros(heads, length + 1))  # by how many events apart
        self.time = nn.Parameter(torch.zeros(heads, AGES))  # by log2 bucket of the seconds apart

    def _split(self, x: Tensor, parts: int) -> list[tuple[Tensor, ...]]:
        """Return the last `parts` of u, q, v, k of x [..., n, D], each a tuple of [..., n, d], one per head."""
        width = x.shape[-1]
        weight, bias = self.project.weight[(4 - parts) * width :], self.project.bias[(4 - parts) * width :]
        split = torch.split(functional.silu(functional.linear(self.norm(x), weight, bias)), width // self.heads, -1)
        return [split[i * self.heads : (i + 1) * self.heads] for i in range(parts)]

    def _bias(self, head: int, apart: Tensor, gap: Tensor) -> Tensor:
        """Return position plus time bias: apart int64 [m] or [n, m], gap int64 [R, ...] -> like gap."""
        time = self.time[head].index_select(0, gap.reshape(-1)).view(gap.shape)
        position = self.position[head].index_select(0, apart.clamp(0, self.length).reshape(-1)).view(apart.shape)
        return time + position

    def _close(self, x: Tensor, u: tuple[Tensor, ...], mixed: list[Tensor]) -> Tensor:
        return torch.as_tensor(self.out(self.mixed_norm(torch.cat(mixed, -1)) * torch.cat(u, -1)) + x)

    def forward(self, events: Tensor, targets: Tensor, layout: Layout, gaps: Gaps) -> tuple[Tensor, Tensor]:
        """Return (events [R, L, D], targets [P, C, D]) after the layer."""
        u, q, v, k = self._split(events, 4)
        mixed = [pointwise(q[h], k[h], v[h], self._bias(h, gaps.apart, gaps.bucket), gaps.seen)
                 for h in range(self.heads)]  # fmt: skip
        return self._close(events, u, mixed), self._see(targets, v, k, layout)

    def last(self, events: Tensor, targets: Tensor, layout: Layout) -> Tensor:
        """Return targets [P, C, D] after the layer; the events need no more than keys and values."""
        v, k = self._split(events, 2)
        return self._see(targets, v, k, layout)

    def _see(self, targets: Tensor, v: tuple[Tensor, ...], k: tuple[Tensor, ...], layout: Layout) -> Tensor:
        """Attend from each target to its history's keys and to its own."""
        u, q, own_v, own_k = self._split(targets, 4)
        apart = layout.lengths[:, None] - torch.arange(layout.mask.shape[1])
        mask = layout.pieces(layout.mask.to(targets.dtype) / self.length).unsqueeze(1)
        mixed = []
        for h in range(self.heads):
            bias = layout.pieces(self._bias(h, apart, layout.age)).unsqueeze(1)
            past = pointwise(q[h], layout.pieces(k[h]), layout.pieces(v[h]), bias, mask)
            score = (q[h] * own_k[h]).sum(-1, keepdim=True) + self.position[h, 0] + self.time[h, 0]
            mixed.append(torch.addcmul(past, functional.silu(score), own_v[h], value=1 / self.length))
        return self._close(targets, u, mixed)


class HSTU(nn.Module):
    """`layers` of HSTU over history and candidate (one item table), then an MLP with the side features.

    `length` is the constant that attention is divided by and the largest distance with a position bias of its own.
    """

    def __init__(self, width: int, *, fields: int, slots: int, actions: int, length: int, layers: int = 2,
                 heads: int = 1, hidden: Sequence[int] = (64, 32), context_width: int = 8,
                 tables: TableOptions) -> None:  # fmt: skip
        super().__init__()
        if layers < 1:
            raise UserError(f"hstu: layers is {layers}; give at least 1")
        if width % heads:
            raise UserError(f"hstu: width {width} is not a multiple of heads {heads}; change one of them")
        self.item = new_table("item", width, item_std(width), tables)
        self.actions = EventActions(actions, width)
        self.side = SideFeatures(width, context_width, fields, slots, tables)
        self.layers = nn.ModuleList(HSTULayer(width, heads, length) for _ in range(layers - 1))
        self.closing = HSTULayer(width, heads, length)
        self.length = length
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
        if len(self.layers):
            gaps = Gaps.of(layout, self.gaps, self.length, events.dtype)
            for layer in self.layers:
                events, targets = layer(events, targets, layout, gaps)
        targets = self.closing.last(events, targets, layout)
        state = self.norm(layout.ungroup(targets))
        return torch.as_tensor(self.body(torch.cat([candidate, state, *self.side(batch)], 1)))
