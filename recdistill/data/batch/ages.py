"""Times as buckets: an event's age by doublings of a second, the gap between two events as in HSTU's public code."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from recdistill.defaults import SECOND

__all__ = ["AGES", "GAPS", "GAP_STEP", "SECOND", "age_bucket", "doublings", "gap_bucket", "gap_edges"]

AGES = 32  # log2 buckets of an age in seconds: 2^31 s is 68 years
GAP_STEP = 0.301  # a bucket of a gap is so much longer than the one before, as a natural logarithm: a third
GAPS = 72  # the last one begins at 60 years


def doublings(count: Tensor, buckets: int, unit: int = 1) -> Tensor:
    """Return int64 log2 buckets of whole numbers of units (int64, any shape): 0 for none, b for [2^(b-1), 2^b), at most
    buckets - 1.
    """
    if torch.compiler.is_exporting():
        return (count.unsqueeze(-1) >= unit * 2 ** torch.arange(buckets - 1)).sum(-1)
    _, exponent = torch.frexp(torch.div(count, unit, rounding_mode="floor").clamp(min=0).to(torch.float64))
    return exponent.to(torch.int64).clamp(max=buckets - 1)


def age_bucket(us: Tensor) -> Tensor:
    """Return int64 log2 buckets of ages in us (int64, any shape): 0 for under 1 s, b for [2^(b-1), 2^b) s, at most
    AGES - 1.
    """
    return doublings(us, AGES, SECOND)


def gap_bucket(us: Tensor) -> Tensor:
    """Return int64 buckets of gaps in us (int64, any shape): floor(ln(seconds) / GAP_STEP), 0 for a second or less, at
    most GAPS - 1 (HSTU's public code, RelativeBucketedTimeAndPositionBasedBias).
    """
    if torch.compiler.is_exporting():
        return (us.unsqueeze(-1) >= torch.tensor(gap_edges())).sum(-1)
    seconds = us.to(torch.float64).div_(SECOND).to(torch.float32).clamp_(min=1.0)
    return seconds.log_().div_(GAP_STEP).to(torch.int64).clamp_(max=GAPS - 1)


@cache
def gap_edges() -> list[int]:
    """Return the shortest gap in us of every bucket but the first: a graph compares with them, and rounds nothing."""
    wanted = torch.arange(1, GAPS)
    below, reached = torch.zeros_like(wanted), torch.full_like(wanted, 2**61)
    while int((reached - below).max()) > 1:
        middle = below + (reached - below) // 2
        there = gap_bucket(middle) >= wanted
        below, reached = torch.where(there, below, middle), torch.where(there, middle, reached)
    return [int(edge) for edge in reached]
