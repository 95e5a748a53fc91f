"""NDCG against its definition, with ties in every order."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recdistill.errors import UserError
from recdistill.evaluate.graded import ndcg

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=7)


def dcg(gains: list[float]) -> float:
    return sum(gain / math.log2(2 + rank) for rank, gain in enumerate(gains))


def by_orders(grade: list[int], score: list[int], weight: list[float]) -> float | None:
    """Return the mean over all orders that the scores allow; None without a grade."""
    gain = [(2**one - 1) * w for one, w in zip(grade, weight, strict=True)]
    best = dcg(sorted(gain, reverse=True))
    orders = [
        order
        for order in itertools.permutations(range(len(grade)))
        if all(score[a] >= score[b] for a, b in itertools.pairwise(order))
    ]
    return float(np.mean([dcg([gain[at] for at in order]) for order in orders])) / best if best else None


@given(ROWS, st.booleans())
def test_it_is_the_mean_over_the_orders_that_scores_allow(rows: list[tuple[int, ...]], weighted: bool) -> None:
    grade, score, group = (list(column) for column in zip(*rows, strict=True))
    weight = [1.0 + at % 3 for at in range(len(rows))] if weighted else [1.0] * len(rows)
    parts = []
    for one in set(group):
        at = [place for place, of in enumerate(group) if of == one]
        parts.append(by_orders(*([values[k] for k in at] for values in (grade, score, weight))))
    known = [part for part in parts if part is not None]
    found = ndcg(np.array(grade), np.array(score, float), np.array(group), np.array(weight) if weighted else None)
    np.testing.assert_allclose(found, np.mean(known) if known else math.nan, atol=1e-12)


def test_agrees_with_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    grade, score = draw.integers(0, 4, 50), draw.normal(0, 1, 50)
    assert ndcg(grade, score, np.zeros(50, int)) == pytest.approx(ndcg_score([2.0**grade - 1], [score]))


def test_a_score_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="score nan"):
        ndcg(np.ones(2), np.array([0.0, math.nan]), np.zeros(2, int))
