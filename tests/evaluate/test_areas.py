"""Soft labels and weights in metrics, against definitions written out pair by pair in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.evaluate import metrics
from recdistill.evaluate.areas import grouped_areas
from recdistill.evaluate.transferability import ScoredSamples, bootstrap, user_weights

SOFT = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])
WEIGHT = st.sampled_from([0.0, 0.5, 1.0, 3.0])
ROWS = st.lists(st.tuples(SOFT, st.integers(-3, 3), st.integers(0, 2), WEIGHT), min_size=1, max_size=25)
HARD = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 2)), min_size=1, max_size=25)


def columns(rows: list[tuple[float, ...]]) -> list[np.ndarray]:
    return [np.array(column, np.float64) for column in zip(*rows, strict=True)]


def by_pairs(y: np.ndarray, z: np.ndarray, w: np.ndarray) -> float:
    """AUC where each row is a positive of mass w y and a negative of mass w (1 - y); NaN where all labels are one."""
    if len(set(y[w > 0])) < 2:
        return math.nan
    pairs = np.outer(w * y, w * (1 - y))
    return float((pairs * (np.sign(np.subtract.outer(z, z)) / 2 + 0.5)).sum() / pairs.sum())


@given(ROWS)
def test_auc_counts_the_mass_of_pairs(rows: list[tuple[float, ...]]) -> None:
    y, z, _, w = columns(rows)
    np.testing.assert_allclose(metrics.auc(y, z, w), by_pairs(y, z, w), atol=1e-12)
    np.testing.assert_allclose(metrics.auc(y, z), by_pairs(y, z, np.ones(len(y))), atol=1e-12)


@given(ROWS)
def test_gauc_weighs_groups_by_their_rows_weights(rows: list[tuple[float, ...]]) -> None:
    y, z, g, w = columns(rows)
    parts = [(by_pairs(y[m], z[m], w[m]), w[m].sum()) for m in (g == one for one in np.unique(g))]
    known = [part for part in parts if not math.isnan(part[0])]
    expected = np.average([p[0] for p in known], weights=[p[1] for p in known]) if known else math.nan
    np.testing.assert_allclose(metrics.gauc(y, z, g.astype(int), w), expected, atol=1e-12)


@given(ROWS)
def test_losses_and_calibration_are_weighted_means(rows: list[tuple[float, ...]]) -> None:
    y, z, _, w = columns(rows)
    p = 1 / (1 + np.exp(-z))
    losses = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    found = metrics.score(y, z, None, w).values
    if not w.sum():
        assert set(found.values()) == {None}
        return
    assert found["logloss"] == pytest.approx(np.average(losses, weights=w))
    rate = np.average(y, weights=w)
    if 0 < rate < 1:
        base = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        assert found["ne"] == pytest.approx(np.average(losses, weights=w) / base)
    if rate:
        assert found["calibration"] == pytest.approx((w @ p) / (w @ y))


@given(HARD, st.integers(1, 4))
def test_a_whole_weight_is_so_many_rows(rows: list[tuple[float, ...]], times: int) -> None:
    y, z, g = columns(rows)
    w = 1.0 + np.arange(len(y)) % times
    many = [np.repeat(one, w.astype(int)) for one in (y, z, g.astype(int))]
    weighted, repeated = metrics.score(y, z, g.astype(int), w), metrics.score(*many)
    assert weighted.why.keys() == repeated.why.keys()
    for name in ("auc", "gauc", "logloss", "ne", "calibration"):
        assert weighted.values[name] == pytest.approx(repeated.values[name], abs=1e-12)


@given(HARD)
def test_weights_of_one_change_no_bit(rows: list[tuple[float, ...]]) -> None:
    y, z, g = columns(rows)
    one = np.ones(len(y))
    assert metrics.auc(y, z, one) == metrics.auc(y, z) or math.isnan(metrics.auc(y, z))
    for kept, fresh in zip(
        metrics.gauc_parts(y, z, g.astype(int)), metrics.gauc_parts(y, z, g.astype(int), one), strict=True
    ):
        np.testing.assert_array_equal(kept, fresh)


def test_the_best_constant_for_soft_labels_has_an_ne_of_one() -> None:
    y = np.array([0.1, 0.5, 0.9, 0.3])
    rate = y.mean()
    assert metrics.normalized_entropy(y, np.full(4, math.log(rate / (1 - rate)))) == pytest.approx(1)


def test_places_within_groups_are_those_of_each_group_alone() -> None:
    draw = np.random.default_rng(0)
    y, z, g, w = draw.random(60).round(1), draw.normal(0, 1, 60).round(1), draw.integers(0, 5, 60), draw.random(60)
    found = grouped_areas(y, z, g, w)
    for one in np.unique(g):
        at = g == one
        below, above = metrics.placements(y[at], z[at], w[at])
        np.testing.assert_allclose(found.below[at], below)
        np.testing.assert_allclose(found.above[at], above)
        np.testing.assert_allclose(found.area[at], by_pairs(y[at], z[at], w[at]))


def test_drawing_a_user_twice_is_to_have_his_rows_twice() -> None:
    draw = np.random.default_rng(1)
    n, users = 400, 20
    user = draw.integers(0, users, n)
    y, z, w = draw.random(n), draw.normal(0, 1, n), draw.uniform(0.2, 3, n)
    bundle, weights = user_weights(users, 3, draw)
    found = bootstrap(ScoredSamples(y, user, user, w), [z], bundle, weights)
    for at, times in enumerate(weights):
        drawn = w * times[bundle[user]]
        assert found["gauc"][0, at] == pytest.approx(metrics.gauc(y, z, user, drawn), abs=0.05)
        assert found["ne"][0, at] == pytest.approx(-metrics.normalized_entropy(y, z, drawn))
        assert found["auc"][0, at] == pytest.approx(metrics.auc(y, z, drawn), abs=0.02)
    assert found["gauc"][0, 0] == pytest.approx(metrics.gauc(y, z, user, w))
