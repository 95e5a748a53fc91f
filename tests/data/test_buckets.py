"""Buckets of numbers: even where values are many, one each where they are few, and none that hides a whole feature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.buckets import ANY_SCALE, BUCKETS, MISSING, bucket_of, fitted_edges

NUMBERS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=200)


@given(NUMBERS, st.lists(st.floats(width=32), max_size=20))
def test_edges_ascend_and_a_bucket_counts_those_at_most_the_value(first: list[float], later: list[float]) -> None:
    edges = fitted_edges(np.array(first))
    assert all(low < high for low, high in zip(edges, edges[1:], strict=False)) and np.isfinite(edges).all()
    values = np.array([*first, *later])
    want = [sum(edge <= value for edge in edges) if np.isfinite(value) else MISSING for value in values]
    assert bucket_of(values, edges).tolist() == want


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=BUCKETS), st.integers(1, 40))
def test_few_distinct_values_have_a_bucket_each(distinct: list[float], times: int) -> None:
    values = np.repeat(distinct, times)
    assert len(set(bucket_of(values, fitted_edges(values)).tolist())) == len(set(distinct))


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6])
@pytest.mark.parametrize("scale", [1e-6, 0.4, 40.0, 1e9])
def test_buckets_are_even_whatever_the_scale_and_the_offset(scale: float, offset: float) -> None:
    values = np.random.default_rng(0).uniform(0, scale, 20_000) + offset * scale
    sizes = np.unique(bucket_of(values, fitted_edges(values[:5_000])), return_counts=True)[1]
    assert BUCKETS <= len(sizes) <= BUCKETS + 2 and sizes.max() < 1.3 * 20_000 / BUCKETS


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_frequent_value_stands_alone_and_takes_no_bucket_from_the_others(share: float) -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(40_000) < share, 0.5, rng.uniform(0, 1, 40_000))
    codes = bucket_of(values, fitted_edges(values))
    assert len({*codes[values == 0.5]}) == 1 and not {*codes[values == 0.5]} & {*codes[values != 0.5]}
    sizes = np.unique(codes[values != 0.5], return_counts=True)[1]
    assert len(sizes) >= BUCKETS - 1 and sizes.max() < 1.3 * (values != 0.5).sum() / BUCKETS


def test_values_that_grow_beyond_the_first_rows_do_not_end_in_one_bucket() -> None:
    edges = fitted_edges(np.arange(1000.0))
    assert len(set(bucket_of(np.array([1.5e3, 3e3, 6e3, 1.2e4, -2e3, -9e3]), edges).tolist())) == 6


@pytest.mark.parametrize("only", [0.0, 7.0, -3.0])
def test_a_value_that_was_constant_at_first_is_told_from_any_other(only: float) -> None:
    edges = fitted_edges(np.full(50, only))
    codes = bucket_of(only + np.array([0.0, 0.01, 0.4, -0.4, 40.0]), edges)
    assert len(set(codes.tolist())) == 5


def test_without_a_number_to_go_by_the_edges_are_of_any_scale() -> None:
    assert fitted_edges(np.array([np.nan, np.inf])) == fitted_edges(np.zeros(0)) == ANY_SCALE
    assert len(set(bucket_of(np.array([-9.0, -0.1, 0.0, 0.1, 0.2, 0.4, 9.0]), ANY_SCALE).tolist())) == 7
