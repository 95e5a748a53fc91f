"""Figures of a loop: expected ones are what many draws come to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.evaluate.closed_loop import LoopPoint, LoopSummary, expected_gauc, share_of_best


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 6))
def test_expected_gauc_is_that_of_all_pairs(seed: int, requests: int, candidates: int) -> None:
    draw = np.random.default_rng(seed)
    scores, p = (
        draw.integers(0, 3, (requests, candidates)).astype(float),
        draw.uniform(0.01, 0.99, (requests, candidates)),
    )
    right = pairs = 0.0
    for row, chance in zip(scores, p, strict=True):
        for i in range(candidates):
            for j in range(candidates):
                if i != j:
                    weight = chance[i] * (1 - chance[j])
                    pairs += weight
                    right += weight * (1.0 if row[i] > row[j] else 0.5 if row[i] == row[j] else 0.0)
    assert expected_gauc(scores, p) == pytest.approx(right / pairs)
    assert expected_gauc(np.zeros_like(p), p) == pytest.approx(0.5)
    assert expected_gauc(p, p) >= max(0.5, expected_gauc(scores, p)) - 1e-12


def point(requests: int, versions: list[int], student: float = 0.5) -> LoopPoint:
    clicks = {"student": student, "frozen": 0.25, "random": 0.0, "best": 1.0}
    return LoopPoint(requests, versions, clicks, 0.5, {"student": 0.7, "frozen": 0.6}, 0)


def test_the_share_lies_between_random_and_best() -> None:
    assert point(1, [1]).share("student") == 0.5 and point(1, [1]).share("frozen") == 0.25
    assert share_of_best(0.1, 0.1, 0.1) is None


def test_a_swap_is_where_a_version_answers_first() -> None:
    points = [point(50, [1]), point(100, [1, 2]), point(150, [2]), point(200, [4]), point(250, [2, 4])]
    assert LoopSummary("x", "m", 20, 4, points, 0).swaps == [(50, 2), (150, 4)]
