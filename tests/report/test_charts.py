"""Axes and their marks, for any numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.report.charts import linear_axis, log_axis, ticks, time_axis, whisker
from tests.support.summaries import START

FINITE = st.floats(-1e9, 1e9, allow_nan=False)


@given(FINITE, FINITE)
def test_ticks_are_round_even_and_cover(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high)
    steps = [y - x for x, y in zip(marks, marks[1:], strict=False)]
    tolerance = 1e-6 * max(steps)
    assert 2 <= len(marks) <= 12
    assert marks[0] <= low + tolerance and high - tolerance <= marks[-1]
    assert max(steps) - min(steps) <= tolerance
    lead = max(steps) / 10 ** math.floor(math.log10(max(steps)) + 1e-9)
    assert min(abs(lead - m) for m in (1, 2, 5, 10)) < 1e-6


@given(st.lists(FINITE, min_size=1, max_size=8))
def test_a_linear_axis_places_its_values_inside_with_marks_that_differ(values: list[float]) -> None:
    axis = linear_axis(values)
    assert all(-0.01 <= axis.place(v) <= 100.01 for v in values)
    texts = [text for _, text in axis.marks]
    assert len(set(texts)) == len(texts)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_log_axis_places_rates_inside_with_few_marks(values: list[float]) -> None:
    axis = log_axis(values)
    assert len(axis.marks) <= 8
    assert all(-0.01 <= axis.place(v) <= 100.01 for v in values)


@pytest.mark.parametrize(
    ("hours", "texts"),
    [
        (0, ["00:00"]),
        (6, ["00:00", "02:00", "04:00", "06:00"]),
        (72, ["2 Mar 00:00", "3 Mar 00:00", "4 Mar 00:00", "5 Mar 00:00"]),
        (24 * 27, ["2 Mar", "11 Mar", "20 Mar", "29 Mar"]),
        (24 * 720, ["Mar 2026"]),
    ],
)
def test_time_marks_fit_their_span(hours: int, texts: list[str]) -> None:
    axis = time_axis([START.timestamp(), START.timestamp() + 3600 * hours])
    assert [text for _, text in axis.marks][: len(texts)] == texts


@pytest.mark.parametrize(
    ("value", "low", "high", "sides"),
    [
        (0.5, 0.2, 0.9, []),
        (0.5, -3.0, 0.9, ["left"]),
        (0.5, 0.2, 3.0, ["right"]),
        (0.5, -3.0, 3.0, ["left", "right"]),
        (9.0, None, None, ["right"]),
    ],
)
def test_a_whisker_marks_the_side_on_which_it_is_cut(
    value: float, low: float | None, high: float | None, sides: list[str]
) -> None:
    strip = whisker(value, low, high, linear_axis([0.0, 1.0]))
    assert [side for side in ("left", "right") if f"cut {side}" in strip] == sides
