"""Metrics of values against their definitions written out pair by pair in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import UserError
from recdistill.evaluate import metrics, values
from recdistill.evaluate.transferability import ScoredSamples, bootstrap, user_weights

WEIGHT = st.sampled_from([0.0, 0.5, 1.0, 3.0])
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 9), WEIGHT), min_size=1, max_size=30)


def columns(rows: list[tuple[float, ...]]) -> list[np.ndarray]:
    return [np.array(column, np.float64) for column in zip(*rows, strict=True)]


def by_pairs(y: np.ndarray, z: np.ndarray, w: np.ndarray) -> float:
    label, value = (np.sign(np.subtract.outer(one, one)) for one in (y, z))
    weight = np.outer(w, w) * (label != 0)
    total = weight.sum()
    return float((weight * (0.5 + 0.5 * label * value)).sum() / total) if total else math.nan


@given(ROWS)
def test_xauc_counts_pairs_with_different_labels(rows: list[tuple[float, ...]]) -> None:
    y, z, w = columns(rows)
    np.testing.assert_allclose(values.xauc(y, z, w), by_pairs(y, z, w), atol=1e-12)
    np.testing.assert_allclose(values.xauc(y, z), by_pairs(y, z, np.ones(len(y))), atol=1e-12)


@given(ROWS)
def test_xauc_of_two_labels_is_auc(rows: list[tuple[float, ...]]) -> None:
    y, z, w = columns(rows)
    np.testing.assert_allclose(values.xauc(y > 1, z, w), metrics.auc(y > 1, z, w), atol=1e-12)


@given(ROWS)
def test_errors_and_calibration_are_weighted_means(rows: list[tuple[float, ...]]) -> None:
    y, z, w = columns(rows)
    found = values.score(y, z, w).values
    if not w.sum():
        assert found["mae"] is found["rmse"] is found["xauc"] is None
        return
    assert found["mae"] == pytest.approx(np.average(np.abs(y - z), weights=w))
    assert found["rmse"] == pytest.approx(math.sqrt(np.average((y - z) ** 2, weights=w)))
    assert found["calibration"] == (pytest.approx((w @ z) / (w @ y)) if w @ y else None)


def test_an_undefined_metric_has_a_reason() -> None:
    assert values.score(np.full(3, 2.0), np.arange(3.0)).why == {"xauc": "all 3 labels are 2"}
    assert set(values.score(np.zeros(0), np.zeros(0)).why.values()) == {"there are no rows"}
    for label, value in (([1.0, math.nan], [1.0, 1.0]), ([1.0, 1.0], [1.0, math.inf])):
        with pytest.raises(UserError, match="in row 1"):
            values.score(np.array(label), np.array(value))


def world(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    draw = np.random.default_rng(0)
    label = draw.exponential(10, rows).round(1)
    return label, (label + draw.normal(0, 8, rows)).round(1), draw.uniform(0.5, 2, rows), draw


def test_a_rows_influence_is_what_counting_it_twice_changes() -> None:
    y, z, w, _ = world(800)
    scored = values.score(y, z, w).values
    signs = {"xauc": 1, "mae": -1, "rmse": -1}
    for name, (value, found) in values.influences(y, z, w).items():
        assert value == pytest.approx(signs[name] * scored[name])  # type: ignore[operator]
        assert found.sum() == pytest.approx(0, abs=1e-9)
        for row in range(0, 800, 80):
            twice = values.score(*(np.r_[one, one[row]] for one in (y, z, w))).values[name]
            change = signs[name] * twice - value  # type: ignore[operator]
            assert found[row] == pytest.approx(change, abs=0.06 * np.abs(found).max())


def test_drawing_a_user_twice_is_to_have_his_rows_twice() -> None:
    y, z, w, draw = world(600)
    user = draw.integers(0, 40, 600)
    bundle, weights = user_weights(40, 3, draw)
    found = bootstrap(ScoredSamples(y, user, user, w, regression=True), [z], bundle, weights)
    assert list(found) == ["xauc", "mae", "rmse"]
    for at, times in enumerate(weights):
        again = values.score(y, z, w * times[bundle[user]]).values
        assert found["mae"][0, at] == pytest.approx(-again["mae"])  # type: ignore[operator]
        assert found["rmse"][0, at] == pytest.approx(-again["rmse"])  # type: ignore[operator]
        assert found["xauc"][0, at] == pytest.approx(again["xauc"], abs=0.01)
