"""The numbers of what is known of outcomes: finite, in the order of the rates, near nothing where little is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.batch.numbers import COUNTS, NUMBERS, numbers_of
from recdistill.data.batch.repeats import REPEATS

COUNT = st.integers(0, 2**31 - 1)


def of_counts(counts: object) -> np.ndarray:
    """Return the numbers of counts, of items that nobody met before."""
    known = np.array(counts, np.int32).reshape(-1, COUNTS)
    return numbers_of(known, np.zeros((len(known), REPEATS), np.float32))


@given(st.lists(st.tuples(COUNT, COUNT, COUNT, COUNT), max_size=20))
def test_they_are_finite_and_small(counts: list[tuple[int, ...]]) -> None:
    found = of_counts(counts)
    assert found.dtype == np.float32 and found.shape == (len(counts), NUMBERS)
    assert np.isfinite(found).all() and (np.abs(found) < 25).all()


@given(COUNT.filter(bool), st.integers(0, 2**31 - 2))
def test_one_positive_more_is_never_less(labels: int, positives: int) -> None:
    one = min(positives, labels - 1)
    less, more = of_counts([[labels, one, 0, 0], [labels, one + 1, 0, 0]])
    assert less[0] <= more[0] and less[1] == more[1] and not less[2:].any()


def test_nothing_known_is_nothing_and_half_of_any_number_has_even_odds() -> None:
    np.testing.assert_array_equal(of_counts([[0, 0, 0, 0]]), 0)
    user, known, item, *_ = of_counts([[3000, 1500, 8, 0]])[0]
    assert user == 0 and abs(known - 1) < 0.01 and np.isclose(item, np.log(2 / 10))
