"""What a gate compares with: the last good windows of earlier versions, and none of a bad one."""

from __future__ import annotations

import math

import numpy as np

from recdistill.config.stream import HealthConfig
from recdistill.stream.gate.health import Window, measure
from recdistill.stream.gate.reference import Record, from_statistics, to_statistics

DRAW = np.random.default_rng(0)


def window(mean: float, rows: int = 200, std: float = 1.0) -> Window:
    """Return a window of unlabelled logits around `mean`."""
    return measure(DRAW.normal(mean, std, rows), np.full(rows, math.nan))


def record(**bounds: float) -> Record:
    """Return a record with 10 windows of version 0 around 0."""
    made = Record(HealthConfig(rows=200, reference_rows=2000, **bounds))  # type: ignore[arg-type]
    for k in range(10):
        made.good(0, 200 * (k + 1), window(0.0).sums)
    return made


def test_the_windows_of_a_bad_version_are_compared_with_no_more() -> None:
    made = record()
    for k in range(5):
        made.good(1, 200 * (k + 1), window(30.0).sums)
    made.bad(1)
    assert made.judge(2, window(0.0)) is None and "mean logit" in (made.judge(2, window(3.0)) or "")
    made.good(2, 200, window(0.0).sums)
    made.begin(3)
    made.bad(2)  # found later
    assert len(made.past) == 9  # the first of version 0 had made room


def test_a_version_is_compared_with_earlier_ones_and_not_with_itself() -> None:
    made = record(log_odds_offset=2.0)
    for k in range(20):  # it walks away slowly
        step = window(0.3 * k)
        if made.judge(1, step):
            break
        made.good(1, 200 * (k + 1), step.sums)
    assert 0.3 * k < 3


def test_the_reference_is_bounded() -> None:
    made = record()
    for version in range(1, 5):
        for k in range(10):
            made.good(version, 200 * (k + 1), window(version).sums)
    assert len(made.past) == 10 and {version for version, _ in made.past} == {3}


def test_what_no_window_shows_alone_shows_in_all_of_a_version_together() -> None:
    made = record(log_odds_offset=0.25, sigmas=8.0)
    found = []
    for k in range(12):
        step = window(0.45)
        found.append(made.judge(1, step))
        made.good(1, 200 * (k + 1), step.sums)
    assert found[:7] == [None] * 7 and any(found[7:])


def test_statistics_come_back_to_the_last_bit() -> None:
    step = measure(DRAW.normal(0, 1, 777), (DRAW.random(777) < 0.3) * 1.0, 700, 800)
    sums, kind = from_statistics(to_statistics(step, "settled"))
    assert kind == "settled" and sums.tobytes() == step.sums.tobytes()
