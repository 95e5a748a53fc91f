"""Metrics against their definitions written out row by row, and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from recdistill.errors import UserError
from recdistill.evaluate import metrics

ROW = st.tuples(st.integers(0, 1), st.integers(-4, 4), st.integers(-2, 2))
ROWS = st.lists(ROW, min_size=1, max_size=40)


def columns(rows, dtype=np.float32):
    label, logit, group = (np.array(column) for column in zip(*rows, strict=True))
    return label.astype(np.float32), (logit / 3).astype(dtype), group


def pairs(label, logit):
    wins = [(a > b) + 0.5 * (a == b) for a in logit[label == 1] for b in logit[label == 0]]
    return float(np.mean(wins)) if wins else math.nan


@given(ROWS, st.sampled_from([np.float32, np.float64]))
def test_auc_counts_pairs(rows, dtype):
    label, logit, _ = columns(rows, dtype)
    np.testing.assert_allclose(metrics.auc(label, logit), pairs(label, logit), atol=1e-12)


@given(ROWS, st.sampled_from([1, 2**31, 2**61]))
def test_gauc_is_the_mean_of_the_groups_weighted_by_rows(rows, scale):
    label, logit, group = columns(rows)
    parts = [(pairs(label[m], logit[m]), m.sum(), g) for g in np.unique(group) for m in [group == g]]
    known = [part for part in parts if not math.isnan(part[0])]
    expected = np.average([p[0] for p in known], weights=[p[1] for p in known]) if known else math.nan
    np.testing.assert_allclose(metrics.gauc(label, logit, group * scale), expected, atol=1e-12)
    code, area, size = metrics.gauc_parts(label, logit, group * scale)
    assert code.tolist() == [p[2] * scale for p in known] and size.tolist() == [p[1] for p in known]
    np.testing.assert_allclose(area, [p[0] for p in known], atol=1e-12)


@given(ROWS)
def test_placements_are_each_rows_share_of_the_other_class(rows):
    label, logit, _ = columns(rows)
    placed = np.where(label == 1, *metrics.placements(label, logit))
    for y, z, value in zip(label, logit, placed, strict=True):
        other = logit[label != y]
        wins = np.sign((z - other) * (2 * y - 1)) / 2 + 0.5
        np.testing.assert_allclose(value, wins.mean() if len(other) else math.nan, atol=1e-12)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_order_of_float32_survives_its_codes(values):
    logit = np.array([*values, 0.0, -0.0], np.float32)
    codes = metrics._order_codes(logit).astype(np.int64)
    assert np.array_equal(np.sign(np.subtract.outer(codes, codes)), np.sign(np.subtract.outer(logit, logit)))


@given(ROWS)
def test_a_row_order_changes_nothing(rows):
    label, logit, group = columns(rows)
    back = slice(None, None, -1)
    first, second = metrics.score(label, logit, group), metrics.score(label[back], logit[back], group[back])
    assert first.why.keys() == second.why.keys()
    for name, value in first.values.items():
        assert value is None or value == pytest.approx(second.values[name], abs=1e-12)


@given(ROWS)
def test_a_score_from_one_sort_is_each_metric_by_itself(rows):
    label, logit, group = columns(rows)
    alone = {
        "auc": metrics.auc(label, logit),
        "gauc": metrics.gauc(label, logit, group),
        "ece": metrics.ece(label, logit),
        "logloss": metrics.logloss(label, logit),
        "ne": metrics.normalized_entropy(label, logit),
        "calibration": metrics.calibration(label, logit),
    }
    found = metrics.score(label, logit, group).values
    assert {n: np.nan if v is None else v for n, v in found.items()} == pytest.approx(alone, abs=1e-12, nan_ok=True)


@given(ROWS, st.floats(-5, 5))
def test_divergence_is_the_kl_of_the_two_coins(rows, shift):
    _, logit, _ = columns(rows)
    p, q = metrics.probability(logit), metrics.probability(logit + shift)
    brute = np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    assert metrics.divergence(logit, logit + shift) == pytest.approx(brute, abs=1e-6)


def sample(n=5000, seed=0):
    draw = np.random.default_rng(seed)
    logit = draw.normal(-1, 1.5, n).round(2).astype(np.float32)
    return (draw.random(n) < metrics.probability(logit)).astype(np.float32), logit, draw.integers(0, 300, n)


def test_agrees_with_scikit_learn():
    label, logit, _ = sample()
    label = label.astype(np.float64)  # scikit-learn takes the labels' precision for its own
    p = metrics.probability(logit)
    base = np.full(len(p), label.mean())
    assert metrics.auc(label, logit) == pytest.approx(roc_auc_score(label, p), abs=1e-12)
    assert metrics.logloss(label, logit) == pytest.approx(log_loss(label, p), abs=1e-9)
    expected = log_loss(label, p) / log_loss(label, base)
    assert metrics.normalized_entropy(label, logit) == pytest.approx(expected, abs=1e-9)
    assert metrics.calibration(label, logit) == pytest.approx(p.sum() / label.sum(), abs=1e-12)


def test_ne_of_sums_is_elementwise_and_nan_with_one_class():
    loss, rows, positives = (
        np.array([2.0, 2.0, 2.0, 0.0]),
        np.array([4.0, 4.0, 4.0, 0.0]),
        np.array([1.0, 0.0, 4.0, 0.0]),
    )
    with np.errstate(all="raise"):
        found = metrics.ne_of_sums(loss, rows, positives)
    assert found[0] == pytest.approx(0.5 / (-0.25 * math.log(0.25) - 0.75 * math.log(0.75)))
    assert np.isnan(found[1:]).all()


def test_bins_have_equal_mass_and_sum_to_the_whole():
    label, logit, _ = sample()
    bins = metrics.calibration_bins(label, logit)
    assert [rows for *_, rows in bins] == [250] * 20
    assert sum(rows * observed for _, observed, rows in bins) == pytest.approx(label.sum())
    assert sum(rows * predicted for predicted, _, rows in bins) == pytest.approx(metrics.probability(logit).sum())
    assert metrics.ece(label, logit) < 0.03 < 0.2 < metrics.ece(label, logit + 1.5)


def test_bins_of_one_constant_prediction_all_show_the_mean_rate():
    label = np.array([1] * 30 + [0] * 70)
    bins = metrics.calibration_bins(label, np.zeros(100))
    assert all(observed == pytest.approx(0.3) and predicted == 0.5 for predicted, observed, _ in bins)
    assert metrics.ece(label, np.zeros(100)) == pytest.approx(0.2)


def test_extreme_logits_stay_finite():
    label, logit = np.array([1, 0, 0, 1]), np.array([-1e4, 1e4, -1e4, 1e4])
    assert metrics.logloss(label, logit) == pytest.approx(5000)
    assert np.isfinite(list(metrics.score(label, logit, np.zeros(4, int)).values.values())).all()


@pytest.mark.parametrize(
    ("label", "logit", "message"),
    [
        ([0, 1], [0.0, math.nan], "row 1"),
        ([0, 1], [math.inf, 0.0], "row 0"),
        ([0, math.nan], [0.0, 1.0], "row 1"),
        ([0, 2], [0.0, 1.0], "labels must be from 0 to 1"),
        ([0, 1, 1], [0.0, 1.0], "equally long"),
    ],
)
@pytest.mark.parametrize("metric", [metrics.auc, metrics.logloss, metrics.calibration, metrics.ece, metrics.placements])
def test_refuses_what_no_metric_accepts(metric, label, logit, message):
    with pytest.raises(UserError, match=message):
        metric(np.array(label), np.array(logit))


def test_an_undefined_metric_has_a_reason():
    one_class = metrics.score(np.zeros(3), np.arange(3.0), np.arange(3))
    assert one_class.values["logloss"] is not None and one_class.values["ece"] is not None
    assert one_class.why["auc"] == one_class.why["ne"] == one_class.why["calibration"] == "all 3 labels are 0"
    assert "no group" in one_class.why["gauc"]
    assert set(metrics.score(np.zeros(0), np.zeros(0)).why.values()) == {"there are no rows"}
