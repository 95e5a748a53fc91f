"""Influences against metrics counted again with a row twice, and intervals over units that share their shocks."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.evaluate import metrics
from recdistill.evaluate.resampling import drawn_by, influences, time_blocks, transferability_by
from recdistill.evaluate.transferability import ScoredSamples, bootstrap, draw_all, transferability, user_weights

METRICS = {
    "auc": lambda y, z, g: metrics.auc(y, z),
    "gauc": metrics.gauc,
    "ne": lambda y, z, g: -metrics.normalized_entropy(y, z),
}

WEIGHTED = {
    "auc": lambda y, z, g, w: metrics.auc(y, z, w),
    "gauc": metrics.gauc,
    "ne": lambda y, z, g, w: -metrics.normalized_entropy(y, z, w),
}


def world(users: int, rows: int, seed: int = 0) -> tuple[ScoredSamples, np.ndarray, np.random.Generator]:
    """Return (samples, true logits, draw), logits rounded so that some are equal."""
    draw = np.random.default_rng(seed)
    user = np.sort(draw.integers(0, users, rows))
    true = np.round(draw.normal(-0.5, 1, users)[user] + draw.normal(0, 1, rows), 1)
    label = (draw.random(rows) < metrics.probability(true)).astype(float)
    return ScoredSamples(label, np.unique(user, return_inverse=True)[1], user), true, draw


def test_soft_and_weighted_rows_influence_as_counting_them_twice_does() -> None:
    samples, true, draw = world(20, 2000)
    soft = np.where(samples.label == 1, draw.uniform(0.5, 1, 2000), draw.uniform(0, 0.5, 2000))
    rows = ScoredSamples(soft, samples.user, samples.group, draw.uniform(0.5, 2, 2000))
    columns = rows.label, true, rows.group, rows.weight
    for name, value, found in influences(rows, true):
        metric = WEIGHTED[name]
        assert value == pytest.approx(metric(*columns))
        assert found.sum() == pytest.approx(0, abs=1e-9)
        twice = [metric(*(np.r_[one, one[row]] for one in columns)) - value for row in range(0, 2000, 40)]
        np.testing.assert_allclose(found[::40], twice, atol=0.06 * np.abs(twice).max())


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_rows_influence_is_what_counting_it_twice_changes(name: str) -> None:
    samples, true, _ = world(20, 2000)
    value, found = next(row for of, *row in influences(samples, true) if of == name)
    assert value == pytest.approx(METRICS[name](samples.label, true, samples.group))
    assert found.sum() == pytest.approx(0, abs=1e-9)  # twice the whole sample is the same metric
    twice = [
        METRICS[name](*(np.r_[one, one[row]] for one in (samples.label, true, samples.group))) - value
        for row in range(0, 2000, 40)
    ]
    np.testing.assert_allclose(found[::40], twice, atol=0.06 * np.abs(twice).max())


def test_users_drawn_by_influence_spread_as_users_drawn_exactly() -> None:
    samples, true, draw = world(300, 6000)
    bundle, weights = user_weights(samples.users, 800, draw)
    exact = bootstrap(samples, [true], bundle, weights)
    for name, value, found in influences(samples, true):
        linear = value + (weights - 1) @ np.bincount(bundle[samples.user], found, weights.shape[1])
        assert np.corrcoef(linear[1:], exact[name][0, 1:])[0, 1] > 0.98
        assert linear[1:].std() == pytest.approx(exact[name][0, 1:].std(), rel=0.1)


def test_a_shock_that_a_stretch_of_time_shares_widens_its_interval() -> None:
    samples, true, draw = world(400, 8000)
    block = time_blocks(8000)
    order = draw.permutation(8000)  # users appear all over the time
    samples = ScoredSamples(samples.label[order], samples.user[order], samples.group[order])
    true = true[order]
    shock = draw.normal(0, 1.0, 50)[block]
    teacher = (true + draw.normal(0, 0.3, 8000)).astype(np.float32)
    raw = [(true + shock * draw.normal(0, 1, 8000) + draw.normal(0, 1, 8000)).astype(np.float32) for _ in range(3)]
    half = [(true + 0.3 * (z - true)).astype(np.float32) for z in raw]
    drawn = draw_all(samples.users, 1, 3, 300)
    users = transferability(samples, [teacher], raw, half, drawn, 0.95)
    units = {"user": samples.user, "time": block}
    found = transferability_by([drawn_by(samples, z, units, 300) for z in (teacher, *raw, *half)], drawn, 0.95)
    for name in ("auc", "ne"):
        by_user, by_time = found[name]["user"], found[name]["time"]
        assert by_user.eta == pytest.approx(users[name].eta)
        assert by_user.low == pytest.approx(users[name].low, abs=0.05)
        assert by_time.teacher_gain_high - by_time.teacher_gain_low > 1.1 * (
            by_user.teacher_gain_high - by_user.teacher_gain_low
        )


def test_a_window_without_rows_or_one_class_has_no_eta() -> None:
    one = ScoredSamples(np.zeros(4), np.arange(4), np.arange(4))
    logits = [np.zeros(4, np.float32)] * 2
    models = [drawn_by(one, z, {"item": np.arange(4)}, 20) for z in (logits[0], *logits, *logits)]
    found = transferability_by(models, draw_all(4, 1, 2, 20), 0.95)
    assert all(found[name]["item"].eta is None for name in METRICS)
    none = ScoredSamples(np.zeros(0), np.zeros(0, int), np.zeros(0, int))
    empty = [np.zeros(0, np.float32)] * 2
    models = [drawn_by(none, z, {"time": time_blocks(0)}, 20) for z in (empty[0], *empty, *empty)]
    found = transferability_by(models, draw_all(0, 1, 2, 20), 0.95)
    assert all(found[name]["time"].eta is None for name in METRICS)
