"""What a gate compares with: the last healthy windows of earlier versions, and none of a bad one."""

from __future__ import annotations

import math

import numpy as np

from recdistill.config.stream import HealthConfig
from recdistill.stream.gate.health import HealthWindow, measure
from recdistill.stream.gate.reference import ReferenceWindows, from_statistics, to_statistics

DRAW = np.random.default_rng(0)


def window(mean: float, rows: int = 200, std: float = 1.0) -> HealthWindow:
    """Return a window of unlabelled logits around `mean`."""
    return measure(DRAW.normal(mean, std, rows), np.full(rows, math.nan))


def reference(**bounds: float) -> ReferenceWindows:
    """Return a reference with 10 windows of version 0 around 0."""
    made = ReferenceWindows(HealthConfig(rows=200, reference_rows=2000, **bounds))  # type: ignore[arg-type]
    for k in range(10):
        made.approve(0, 200 * (k + 1), window(0.0).sums)
    return made


def test_the_windows_of_a_bad_version_are_compared_with_no_more() -> None:
    made = reference()
    for k in range(5):
        made.approve(1, 200 * (k + 1), window(30.0).sums)
    made.reject(1)
    assert made.fault_of(2, window(0.0)) is None and "mean logit" in (made.fault_of(2, window(3.0)) or "")
    made.approve(2, 200, window(0.0).sums)
    made.begin(3)
    made.reject(2)  # found later
    assert len(made.past) == 9  # the first of version 0 had made room


def test_a_version_is_compared_with_earlier_ones_and_not_with_itself() -> None:
    made = reference(shift=2.0)
    for k in range(20):  # it walks away slowly
        step = window(0.3 * k)
        if made.fault_of(1, step):
            break
        made.approve(1, 200 * (k + 1), step.sums)
    assert 0.3 * k < 3


def test_the_reference_is_bounded() -> None:
    made = reference()
    for version in range(1, 5):
        for k in range(10):
            made.approve(version, 200 * (k + 1), window(version).sums)
    assert len(made.past) == 10 and {version for version, _ in made.past} == {3}


def test_what_no_window_shows_alone_shows_in_all_of_a_version_together() -> None:
    made = reference(shift=0.25, sigmas=8.0)
    found = []
    for k in range(12):
        step = window(0.45)
        found.append(made.fault_of(1, step))
        made.approve(1, 200 * (k + 1), step.sums)
    assert found[:7] == [None] * 7 and any(found[7:])


def test_statistics_come_back_to_the_last_bit() -> None:
    step = measure(DRAW.normal(0, 1, 777), (DRAW.random(777) < 0.3) * 1.0, 700, 800)
    sums, kind = from_statistics(to_statistics(step, "settled"))
    assert kind == "settled" and sums.tobytes() == step.sums.tobytes()
