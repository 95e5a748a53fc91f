"""Relative attention bias (HSTU, 2402.17152): by how many events lie between two events, and by log2 of the
seconds between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import AGES
from recdistill.errors import UserError
from recdistill.models.attention.target_ops import EMPTY, gap_buckets
from recdistill.models.encoders.packed import Sequences

__all__ = ["Bias", "RelativeBias"]

Bias = Literal["position", "time"]
KINDS = get_args(Bias)


class RelativeBias(nn.Module):
    """What is added to the score of a pair of events, per head; `kinds`: which of position and time are
    used.

    length: the largest distance with a value of its own. Shapes as in blockwise.py.
    """

    def __init__(self, heads: int, length: int, kinds: Sequence[str] = KINDS) -> None:
        super().__init__()
        for kind in kinds:
            if kind not in KINDS:
                raise UserError(f"bias {kind!r} is not one of {', '.join(KINDS)}")
        self.heads = heads
        self.position = nn.Parameter(torch.zeros(heads, length + 1)) if "position" in kinds else None
        self.time = nn.Parameter(torch.zeros(heads, AGES)) if "time" in kinds else None
        self.register_buffer("gaps", gap_buckets(AGES), persistent=False)

    def by_distance(self, like: Tensor) -> Tensor:
        """Return [H, S], by events apart, the last for all farther ones."""
        return like.new_zeros(self.heads, 1) if self.position is None else self.position

    def timed(self, q: Tensor, k: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """Return q and k [N, L, e] of [R, H, L, d], whose products have the time bias in them; age int64 [R, L].

        The bias depends on two of AGES ages: a query brings its age's row of it, a key the one-hot of its own.
        """
        if self.time is None:
            return q.flatten(0, 1), k.flatten(0, 1)
        between = (
            self.time.index_select(1, self.get_buffer("gaps").view(-1)).view(self.heads, AGES, AGES).transpose(0, 1)
        )
        row = between.reshape(AGES, -1).index_select(0, age.view(-1)).view(*age.shape, self.heads, AGES).transpose(1, 2)
        column = (
            torch.eye(AGES, dtype=k.dtype, device=k.device).index_select(0, age.view(-1)).view(len(age), 1, -1, AGES)
        )
        column = column.expand(-1, self.heads, -1, -1)
        return torch.cat([q, row.to(q.dtype)], 3).flatten(0, 1), torch.cat([k, column], 3).flatten(0, 1)

    def of_targets(self, at: Sequences, like: Tensor) -> Tensor:
        """Return [R, H, L], what a target, now, adds to the score of each event of its history; EMPTY for padding."""
        distance, time = self.by_distance(like), like.new_zeros(self.heads, AGES) if self.time is None else self.time
        apart = (at.lengths[:, None] - torch.arange(at.age.shape[1], device=like.device)).clamp(
            0, distance.shape[1] - 1
        )
        added = distance.index_select(1, apart.view(-1)) + time.index_select(1, at.age.view(-1))
        return added.view(-1, *apart.shape).masked_fill(~at.mask, EMPTY).transpose(0, 1).to(like.dtype)

    def of_itself(self, like: Tensor) -> Tensor:
        """Return [H], what is added to the score of something with itself."""
        time = 0.0 if self.time is None else self.time[:, 0]
        return self.by_distance(like)[:, 0] + time

    def beyond(self, apart: Tensor, band: int, like: Tensor) -> Tensor:
        """Return [H, n, m], the position bias of pairs `apart` [n, m] that are at least `band` events
        apart, EMPTY for the others.
        """
        distance = self.by_distance(like)
        bias = distance.index_select(1, apart.clamp(0, distance.shape[1] - 1).view(-1)).view(-1, *apart.shape)
        return bias.masked_fill(apart < band, EMPTY).to(like.dtype)
