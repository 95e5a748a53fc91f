"""Values of numbers: within bounds whatever comes, of one deviation where the first rows lie, missing ones flagged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.scales import ANY_VALUE, LIMIT, fitted_scale, scale_words, scaled

NUMBERS = st.lists(st.floats(width=32), max_size=60)


@given(NUMBERS, NUMBERS)
def test_values_are_finite_bounded_and_in_the_order_of_the_numbers(first: list[float], later: list[float]) -> None:
    scale = fitted_scale(np.array(first, np.float64))
    values = np.array([*first, *later], np.float64)
    found = scaled(values, scale)
    assert found.dtype == np.float32 and found.shape == (len(values), 2)
    assert np.isfinite(found).all() and (np.abs(found[:, 0]) <= LIMIT).all()
    missing = ~np.isfinite(values)
    assert (found[:, 1] == missing).all() and not found[missing, 0].any()
    order = np.argsort(values[~missing], kind="stable")
    assert (np.diff(found[~missing, 0][order]) >= 0).all()


@pytest.mark.parametrize("offset", [0.0, -3e4])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_a_normal_feature_is_normalised_whatever_its_scale(size: float, offset: float) -> None:
    draws = size * (np.random.default_rng(0).normal(0, 1, 20_000) + offset)
    scale = fitted_scale(draws[:5_000])
    assert scale[0] == 0
    found = scaled(draws, scale)[:, 0]
    assert found.mean() == pytest.approx(0, abs=0.05) and found.std() == pytest.approx(1, abs=0.05)


def test_wild_values_among_the_first_rows_change_nothing_much() -> None:
    draws = np.random.default_rng(1).normal(5, 2, 5_000)
    wild = draws.copy()
    wild[:20] = 1e12
    assert fitted_scale(wild) == pytest.approx(fitted_scale(draws), rel=0.05)


def test_a_heavy_tail_is_taken_by_its_logarithm() -> None:
    draws = np.random.default_rng(2).lognormal(3, 2, 20_000)
    scale = fitted_scale(draws)
    found = scaled(draws, scale)[:, 0]
    assert scale[0] > 0 and (np.abs(found) == LIMIT).mean() < 5e-3 and found.std() == pytest.approx(1, abs=0.3)
    mirrored = scaled(-draws, fitted_scale(-draws))[:, 0]
    np.testing.assert_allclose(mirrored, -found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.6, 0.99])
def test_mostly_one_value_still_has_a_spread(share: float) -> None:
    rng = np.random.default_rng(3)
    draws = np.where(rng.random(10_000) < share, 0.0, rng.exponential(4, 10_000))
    found = scaled(draws, fitted_scale(draws))[:, 0]
    assert len(np.unique(found)) > 90 and found[draws == 0].std() == 0


def test_without_a_number_to_go_by_the_scale_is_any() -> None:
    assert fitted_scale(np.array([np.nan, np.inf])) == fitted_scale(np.zeros(0)) == ANY_VALUE
    assert fitted_scale(np.full(9, 7.0)) == (0.0, 7.0, 1.0)


def test_the_words_are_what_is_computed() -> None:
    assert scale_words((0.0, 12.5, 3.0)) == "(x - 12.5) / 3"
    assert scale_words((20.0, -0.5, 2.0)) == "(slog(x / 20) + 0.5) / 2"
