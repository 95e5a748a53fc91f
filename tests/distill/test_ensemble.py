"""Several teachers as one: their mean, or weighted by recent log-loss; never by a label of the same step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recdistill.distill.ensemble import MIN_SLICE_ROWS, STEP, RecentLosses, combine

NAN = np.nan
SAID = arrays.arrays(np.float32, (3, 5, 2), elements=st.one_of(st.floats(-5, 5, width=32), st.just(NAN)))


@given(SAID)
def test_the_mean_is_of_those_who_speak(said):
    found = combine("mean", said, np.full((5, 2), NAN), np.zeros(5, int), RecentLosses(1, 3, 2, 100))
    for row in range(5):
        for k in range(2):
            heard = said[:, row, k][~np.isnan(said[:, row, k])].astype(float)
            assert found[row, k] == pytest.approx(heard.mean(), abs=1e-5) if len(heard) else np.isnan(found[row, k])


def world(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (log-odds [2, n, 1] of a teacher that knows and one that guesses, labels [n, 1])."""
    draw = np.random.default_rng(seed)
    z = draw.normal(0, 2, rows)
    labels = draw.random(rows) < 1 / (1 + np.exp(-z))
    return np.stack([z, draw.normal(0, 2, rows)])[..., None].astype(np.float32), labels[:, None].astype(float)


def test_recent_follows_who_is_right_slice_by_slice():
    said, labels = world(10_000)
    swapped, slices = said.copy(), np.arange(10_000) % 2
    swapped[:, slices == 1] = said[::-1, slices == 1]  # in the second slice it is the other who knows
    found = combine("recent", swapped, labels, slices, RecentLosses(2, 2, 1, 2000))
    np.testing.assert_allclose(found[:STEP], swapped[:, :STEP].mean(0), atol=1e-6)  # nothing was known yet
    np.testing.assert_allclose(found[2 * STEP :], said[0, 2 * STEP :], atol=1e-2)


def test_no_label_reaches_its_own_step():
    said, labels = world(3 * STEP)
    changed = labels.copy()
    changed[STEP : 2 * STEP] = 1 - changed[STEP : 2 * STEP]
    one, other = (
        combine("recent", said, y, np.zeros(len(y), int), RecentLosses(1, 2, 1, 5000)) for y in (labels, changed)
    )
    np.testing.assert_array_equal(one[: 2 * STEP], other[: 2 * STEP])
    assert (one[2 * STEP :] != other[2 * STEP :]).any()


def test_few_rows_weigh_all_alike():
    said, labels = world(MIN_SLICE_ROWS - 1)
    record = RecentLosses(1, 2, 1, 5000)
    record.add(said, labels, np.zeros(len(labels), int))
    np.testing.assert_array_equal(record.weights(), 0.5)


def test_a_teacher_that_was_better_once_is_forgotten():
    said, labels = world(20_000)
    turned = said.copy()
    turned[:, 10_000:] = said[::-1, 10_000:]
    found = combine("recent", turned, labels, np.zeros(20_000, int), RecentLosses(1, 2, 1, 1000))
    np.testing.assert_allclose(found[15_000:], said[0, 15_000:], atol=1e-2)
