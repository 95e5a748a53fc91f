"""Several teachers as one: their mean, or weighted by recent log-loss; never by a label of the same step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recdistill.distill.ensemble import MIN_SLICE_ROWS, STEP, RecentLosses, combine, mean

NAN = np.nan
SAID = arrays.arrays(np.float32, (3, 5, 2), elements=st.one_of(st.floats(-5, 5, width=32), st.just(NAN)))


@given(SAID)
def test_the_mean_is_of_those_with_log_odds(log_odds):
    found = mean(log_odds)
    for row in range(5):
        for k in range(2):
            present = log_odds[:, row, k][~np.isnan(log_odds[:, row, k])].astype(float)
            assert found[row, k] == pytest.approx(present.mean(), abs=1e-5) if len(present) else np.isnan(found[row, k])


def recent(log_odds: np.ndarray, labels: np.ndarray, slices: np.ndarray, losses: RecentLosses) -> np.ndarray:
    """Return the ensemble where every label is known with the next step."""

    def before(row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = slice(max(row - STEP, 0), row)
        return log_odds[:, part], labels[part], slices[part]

    return combine(log_odds, slices, losses, before)


def world(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (log-odds [2, n, 1] of a teacher that knows and one that guesses, labels [n, 1])."""
    draw = np.random.default_rng(seed)
    z = draw.normal(0, 2, rows)
    labels = draw.random(rows) < 1 / (1 + np.exp(-z))
    return np.stack([z, draw.normal(0, 2, rows)])[..., None].astype(np.float32), labels[:, None].astype(float)


def test_recent_follows_who_is_right_slice_by_slice():
    log_odds, labels = world(10_000)
    swapped, slices = log_odds.copy(), np.arange(10_000) % 2
    swapped[:, slices == 1] = log_odds[::-1, slices == 1]  # in the second slice it is the other who knows
    found = recent(swapped, labels, slices, RecentLosses(2, 2, 1, 2000))
    np.testing.assert_allclose(found[:STEP], swapped[:, :STEP].mean(0), atol=1e-6)  # nothing was known yet
    np.testing.assert_allclose(found[2 * STEP :], log_odds[0, 2 * STEP :], atol=1e-2)


def test_no_label_reaches_its_own_step():
    log_odds, labels = world(3 * STEP)
    changed = labels.copy()
    changed[STEP : 2 * STEP] = 1 - changed[STEP : 2 * STEP]
    one, other = (recent(log_odds, y, np.zeros(len(y), int), RecentLosses(1, 2, 1, 5000)) for y in (labels, changed))
    np.testing.assert_array_equal(one[: 2 * STEP], other[: 2 * STEP])
    assert (one[2 * STEP :] != other[2 * STEP :]).any()


def test_few_rows_weigh_all_alike():
    log_odds, labels = world(MIN_SLICE_ROWS - 1)
    losses = RecentLosses(1, 2, 1, 5000)
    losses.add(log_odds, labels, np.zeros(len(labels), int))
    np.testing.assert_array_equal(losses.weights(), 0.5)


def test_a_teacher_that_was_better_once_is_forgotten():
    log_odds, labels = world(20_000)
    swapped = log_odds.copy()
    swapped[:, 10_000:] = log_odds[::-1, 10_000:]
    found = recent(swapped, labels, np.zeros(20_000, int), RecentLosses(1, 2, 1, 1000))
    np.testing.assert_allclose(found[15_000:], log_odds[0, 15_000:], atol=1e-2)
