"""Relative attention bias (HSTU, 2402.17152): by how many events lie between two events, and by the time
between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from recdistill.data.batch.ages import GAPS, gap_bucket
from recdistill.errors import UserError
from recdistill.models.attention.target_ops import EMPTY
from recdistill.models.attention.time_bias import TimeBias
from recdistill.models.encoders.packed import Sequences
from recdistill.models.widths import Dim, out

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
        self.time = nn.Parameter(torch.zeros(heads, GAPS)) if "time" in kinds else None

    def dims(self) -> dict[str, tuple[Dim, ...]]:
        """Return the dimensions of its parameters, which are of heads."""
        kept = (("position", self.position), ("time", self.time))
        return {name: (out(["heads"]), out([own.shape[1]])) for name, own in kept if own is not None}

    def by_distance(self, like: Tensor) -> Tensor:
        """Return [H, S], by events apart, the last for all farther ones."""
        return like.new_zeros(self.heads, 1) if self.position is None else self.position

    def by_gap(self, query: Tensor, key: Tensor) -> TimeBias | None:
        """Return what the exact time between two events adds, None where time is not used; query int64 [R, n], key
        int64 [R, m], how many us before their samples they lie.
        """
        return None if self.time is None else TimeBias(self.time, query, key)

    def of_targets(self, at: Sequences, like: Tensor) -> Tensor:
        """Return [R, H, L], what a target, now, adds to the score of each event of its history; EMPTY for padding."""
        distance, time = self.by_distance(like), like.new_zeros(self.heads, GAPS) if self.time is None else self.time
        apart = (at.lengths[:, None] - torch.arange(at.ago.shape[1], device=like.device)).clamp(
            0, distance.shape[1] - 1
        )
        added = distance.index_select(1, apart.view(-1)) + time.index_select(1, gap_bucket(at.ago).view(-1))
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
