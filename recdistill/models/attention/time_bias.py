"""What the exact time between two events adds to their score (HSTU, 2402.17152): buckets per pair are made where the
pair's score is, in a tile, and never kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recdistill.data.batch.ages import GAP_STEP, GAPS, SECOND

__all__ = ["TimeBias", "add_slopes", "add_time", "buckets_between"]


class TimeBias(NamedTuple):
    """table: [H, GAPS], by `gap_bucket`; query: int64 [R, n], key: int64 [R, m], how many us before their samples
    the events lie.
    """

    table: Tensor
    query: Tensor
    key: Tensor


def buckets_between(query: Tensor, key: Tensor) -> Tensor:
    """Return int32 [R * n * m], `gap_bucket` of the time between, in fewer passes; int64 [R, n], [R, m], us ago."""
    earlier = key.to(torch.float64).div_(SECOND).unsqueeze(1)
    apart = (earlier - query.to(torch.float64).div_(SECOND).unsqueeze(2)).to(torch.float32)
    return apart.clamp_(min=1.0).log_().div_(GAP_STEP).to(torch.int32).clamp_(max=GAPS - 1).view(-1)


def add_time(scores: Tensor, table: Tensor, buckets: Tensor) -> None:
    """Add to scores [R * H, n, m] the table's values [H, GAPS] of the pairs' buckets [R * n * m]."""
    by_head = scores.view(-1, len(table), *scores.shape[1:])
    for head, values in enumerate(table.to(scores.dtype)):
        by_head[:, head] += values.index_select(0, buckets).view(-1, *scores.shape[1:])


def add_slopes(to_table: Tensor, slopes: Tensor, buckets: Tensor) -> None:
    """Add to the table's gradient [H, GAPS] what the slopes [R * H, n, m] of some scores give it."""
    by_head, where = slopes.view(-1, len(to_table), *slopes.shape[1:]), buckets.to(torch.int64)
    for head, sums in enumerate(to_table):
        sums += torch.zeros_like(sums).scatter_add_(0, where, by_head[:, head].reshape(-1).to(sums.dtype))
