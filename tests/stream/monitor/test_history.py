"""What the monitor remembers of a process: the newest rows' figures, curves and pace, all of bounded size."""

from __future__ import annotations

import pytest

from recdistill.stream.monitor.history import (
    MAX_POINTS,
    MAX_SUMS,
    RECENT_ROWS,
    Curve,
    Figures,
    ProcessHistory,
    RecentSums,
    role_of,
)
from recdistill.stream.progress import GateProgress, Health, IngestProgress, ModelProgress, Sums
from tests.support.streams import sums_of


def test_figures_are_of_the_newest_rows_however_they_came() -> None:
    recent = RecentSums()
    for k in range(1, 1001):
        recent.add(sums_of(100.0 * k, 0.3))
        assert len(recent.kept) <= MAX_SUMS + 2
    assert RECENT_ROWS <= recent.figures().rows <= RECENT_ROWS * 1.05


def test_a_model_that_was_rolled_back_counts_its_rows_anew() -> None:
    recent, curve = RecentSums(), Curve()
    for k in (1, 2, 3):
        recent.add(sums_of(1000.0 * k, 0.9))
        curve.add(float(k), recent.figures())
    recent.add(sums_of(1500.0, 0.3))
    curve.add(1.5, recent.figures())
    assert recent.figures() == Figures.between(Sums(), sums_of(1500.0, 0.3))
    assert [point[0] for point in curve.points] == [1.0, 1.5]
    for k in range(1, 61):
        recent.add(sums_of(1000.0 * k, 0.9))
    recent.add(sums_of(2000.0, 0.4))
    assert recent.figures() == Figures.between(Sums(), sums_of(2000.0, 0.4))


def test_figures_need_labels_of_both_kinds() -> None:
    assert Figures.between(Sums(), Sums()) == Figures()
    assert Figures.between(Sums(), Sums(labels=5.0, positives=5.0, logloss=1.0)).ne is None


def test_a_curve_is_bounded_and_evenly_thinned() -> None:
    curve = Curve()
    for k in range(100_000):
        curve.add(float(k), Figures(1, 0.5, 1.0))
        assert len(curve.points) <= MAX_POINTS
    times = [point[0] for point in curve.points]
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert (times[0], times[-1]) == (0.0, 99_999.0) and max(gaps[:-1]) <= 2.1 * min(gaps[:-1])


def test_label_to_weights_is_the_longest_of_the_last_half_minute() -> None:
    history = ProcessHistory("m", "model")
    assert history.label_to_weights() is None
    for wall, lag in ((0.0, 9.0), (50.0, 2.0), (60.0, 1.0)):
        history.add(ModelProgress(lag=lag, health=Health(wall)))
    assert history.label_to_weights() == 2.0


@pytest.mark.parametrize(
    ("name", "role", "student"),
    [
        ("teacher", "teacher", ""),
        ("teacher-b", "teacher", ""),
        ("a.b.raw.s0", "raw", "a.b"),
        ("x.distilled.s11", "distilled", "x"),
        ("teacherish", "other", ""),
        ("x.raw", "other", ""),
        ("x", "other", ""),
    ],
)
def test_the_role_of_a_model_stands_in_its_name(name: str, role: str, student: str) -> None:
    assert role_of(name) == (role, student)


def test_rows_per_second_are_of_the_newest_half_minute_and_none_after_the_end() -> None:
    history = ProcessHistory("ingest", "ingest")
    for second in range(100):
        history.add(IngestProgress(rows=second * (1 if second < 50 else 3), health=Health(float(second))))
    assert history.rows_per_second(99.0) == pytest.approx(3.0)
    assert history.rows_per_second(200.0) == 0.0
    history.add(IngestProgress(rows=300, end=True, health=Health(100.0)))
    assert history.rows_per_second(100.0) is None


def test_a_gate_has_health_and_an_end_but_no_rows_of_its_own() -> None:
    history = ProcessHistory("gate", "gate")
    history.add(GateProgress(7, 3, True, Health(5.0, 1, 2)))
    assert (history.end, history.health, history.rows) == (True, Health(5.0, 1, 2), 0)
    assert history.rows_per_second(6.0) is None and history.curve.points == []
