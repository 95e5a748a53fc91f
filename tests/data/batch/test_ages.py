"""Buckets of ages double; buckets of gaps are those of HSTU's public code, second by second."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.batch.ages import AGES, GAP_STEP, GAPS, SECOND, age_bucket, gap_bucket


def test_age_buckets_are_powers_of_two_seconds() -> None:
    seconds = [-5, 0, 0.5, 1, 1.9, 2, 3, 4, 3600, 2.0**40]
    us = torch.tensor([int(one * SECOND) for one in seconds])
    assert age_bucket(us).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 12, AGES - 1]


@given(st.lists(st.floats(-1, 22), min_size=1))
def test_gap_buckets_are_logarithms_of_seconds(logs: list[float]) -> None:
    """Away from a bucket's edge, where float32 may take the other side."""
    inside = [one for one in logs if abs(one / GAP_STEP - round(one / GAP_STEP)) > 1e-4]
    us = torch.tensor([int(math.exp(one) * SECOND) for one in inside], dtype=torch.int64)
    assert gap_bucket(us).tolist() == [min(GAPS - 1, max(0, math.floor(one / GAP_STEP))) for one in inside]


def test_gaps_keep_their_shape_and_a_second_or_less_is_none() -> None:
    found = gap_bucket(torch.tensor([[-9 * SECOND, 0, 1], [SECOND, 2 * SECOND, 60 * 365 * 86400 * SECOND]]))
    assert found.tolist() == [[0, 0, 0], [0, 2, 70]] and found.dtype == torch.int64
