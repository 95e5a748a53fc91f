"""The rule for seeds that diverged: a far one is found, an ordinary spread is not, and never most of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.evaluate.diverged import diverged, left_out
from recdistill.evaluate.metrics import normalized_entropy


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([0.800, 0.801, 0.799, 0.885, 0.802], [3]),
        ([0.800, 0.801, 0.885], [2]),
        ([0.800, 0.885], []),  # of two nobody can say which
        ([0.885], []),
        ([0.80, 0.83, 0.77, 0.86, 0.74], []),  # seeds that are far from each other anyway
        ([0.800, 0.8001, 0.8002, 0.815], []),  # beyond their spread, but by less than 0.02
        ([0.700, 0.800, 0.801, 0.802], []),  # better than the others is no divergence
        ([0.8, 0.8, 0.8, math.nan], []),
    ],
)
def test_the_rule(values: list[float], places: list[int]) -> None:
    assert diverged(values) == places


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=12))
def test_never_half_of_them_and_only_far_above(values: list[float]) -> None:
    found = diverged(values)
    assert 2 * len(found) < len(values)
    assert all(values[at] > np.median(values) + 0.02 for at in found)


def test_each_variant_is_judged_by_its_own_seeds() -> None:
    draw = np.random.default_rng(0)
    label = (draw.random(2000) < 0.3).astype(float)
    fine = [draw.normal(-1, 0.01, 2000) for _ in range(4)]
    wild = [*fine[:3], draw.normal(0, 3, 2000)]
    ne = {name: [normalized_entropy(label, z) for z in seeds] for name, seeds in (("raw", fine), ("distilled", wild))}
    found = left_out([5, 6, 7, 8], ne)
    assert [(one.seed, one.variant) for one in found] == [(8, "distilled")]
    assert found[0].ne is not None and found[0].median is not None and found[0].ne > found[0].median + 0.02
