"""Fronts, halving and the recommendation, against brute force and cases by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import UserError
from recdistill.evaluate.choice import (
    Budget,
    Cost,
    Tried,
    correction,
    going_on,
    nearest,
    reach,
    recipe_steps,
    recommended,
    with_front,
)

VALUES = st.integers(1, 4)


def tried(name: str, quality: float | None, latency: float, memory: float, std: float | None = None) -> Tried:
    return Tried(
        name=name,
        changes={},
        rows=1,
        seeds=4,
        raw=None,
        distilled=quality,
        distilled_std=std,
        cost=Cost(latency_ms=latency, memory_mib=memory),
    )


MANY = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12).map(
    lambda rows: [tried(f"s{at}", float(q), a, b) for at, (q, a, b) in enumerate(rows)]
)


@given(MANY)
def test_the_front_is_what_none_beats(many: list[Tried]) -> None:
    def beaten(one: Tried) -> bool:
        costs = (one.cost.latency_ms, one.cost.memory_mib)
        return any(
            other.quality >= one.quality
            and (other.cost.latency_ms, other.cost.memory_mib) <= costs
            and other.cost.latency_ms <= one.cost.latency_ms
            and other.cost.memory_mib <= one.cost.memory_mib
            and (other.quality, other.cost.latency_ms, other.cost.memory_mib) != (one.quality, *costs)
            for other in many
        )

    assert [one.front for one in with_front(many)] == [not beaten(one) for one in many]


@given(MANY)
def test_a_third_goes_on_and_whoever_goes_on_is_not_behind_in_everything(many: list[Tried]) -> None:
    names = going_on(many)
    assert len(names) == min(len(many), max(3, math.ceil(len(many) / 3))) == len(set(names))
    going = [one for one in many if one.name in names]
    for left in (one for one in many if one.name not in names):
        for one in going:
            better = left.quality > one.quality and left.cost.latency_ms < one.cost.latency_ms
            assert not (better and left.cost.memory_mib < one.cost.memory_mib)


def test_the_cheapest_of_those_within_the_noise_of_the_best() -> None:
    best, close, far = tried("best", 0.8, 9, 9, 0.01), tried("close", 0.79, 2, 5, 0.01), tried("far", 0.7, 1, 1, 0.01)
    chosen, reasons = recommended([best, close, far])
    assert chosen.name == "close" and "within 2 standard errors" in reasons[0] and "2.00 ms" in reasons[1]
    certain = [one.model_copy(update={"distilled_std": 0.001}) for one in (best, close, far)]
    chosen, reasons = recommended(certain)
    assert chosen.name == "best" and "best quality" in reasons[0]
    unknown = [one.model_copy(update={"distilled_std": None}) for one in (best, close, far)]
    assert recommended(unknown)[0].name == "best"
    assert recommended([tried("none", None, 1, 1), far])[0].name == "far"


def test_rounds_that_reach_into_the_window_of_the_last_are_named() -> None:
    assert reach([100, 300, 900], 0.5) == reach([900], 0.0) == reach([100, 300, 900], 1 / 3) == []
    assert "the rounds before reach into the window" in reach([100, 300, 900], 0.3)[0]


def test_without_a_metric_nothing_is_recommended() -> None:
    with pytest.raises(UserError, match="gives the students of the last round no metric"):
        recommended([tried("one", None, 1, 1), tried("other", None, 2, 2)])


def test_which_budget_binds() -> None:
    one, other = tried("one", 1, 20, 1), tried("other", 1, 15, 3)
    assert "the latency budget is below all of them; the nearest, other" in nearest(
        [one, other], Budget(latency_ms=10, memory_mib=5)
    )
    both = nearest([one, other], Budget(latency_ms=10, memory_mib=0.5))
    assert "the latency and memory budget" in both and "the nearest, one" in both
    mixed = nearest([one, other, tried("both", 1, 30, 9)], Budget(latency_ms=16, memory_mib=2))
    assert "some meet the latency budget and some the memory budget, none meets both; the nearest, one" in mixed


def test_the_steps_of_the_recipe_lead_from_labels_alone_to_quantised_rows() -> None:
    own = tried("din-16", 0.62, 1.0, 40.0).model_copy(update={"raw": 0.6})
    small = Cost(latency_ms=1.1, memory_mib=10.0, lost=0.01, whole=own.cost)
    recipe = tried("recipe", 0.65, 1.0, 40.0).model_copy(update={"cost": small})
    found = [(step.name, step.quality, step.cost.memory_mib) for step in recipe_steps(own, recipe)]
    assert found[:2] == [("labels alone", 0.6, 40.0), ("distilled", 0.62, 40.0)]
    assert found[2:] == [("pruned, and distilled again", 0.65, 40.0), ("rows as int8", recipe.quality, 10.0)]
    assert recipe.quality == 0.65 - 0.01 and len(recipe_steps(own, tried("recipe", 0.65, 1.0, 40.0))) == 3


def test_a_teacher_that_is_not_corrected_is_named() -> None:
    assert "is no step: it learns from every sample" in correction([])
    assert "was not done: old predicts with old weights" in correction(["old"])
    assert "was not done: old, older predict with old weights" in correction(["old", "older"])
