"""From a State's models to what a chart shows: seeds averaged, every series on one grid of event time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from statistics import fmean

from recdistill.stream.monitor.history import Point
from recdistill.stream.monitor.state import ModelState, State

__all__ = ["grid_of", "mean_ne", "models_of", "on_grid", "students_of"]

PLACES = 80  # of a chart's grid
Value = float | None


def students_of(state: State) -> list[str]:
    """Return the students' names, as they came."""
    return list(dict.fromkeys(one.student for one in state.models if one.student))


def models_of(state: State, student: str, role: str) -> list[ModelState]:
    """Return the models of one role, one per seed: of `student`, or the teachers, which all students share."""
    return [one for one in state.models if one.role == role and (role == "teacher" or one.student == student)]


def mean_ne(state: State, student: str, role: str) -> Value:
    """Return the NE over the newest rows, mean over the seeds that have one."""
    return _mean([one.recent.ne for one in models_of(state, student, role)])


def _mean(values: Sequence[Value]) -> Value:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def grid_of(models: Sequence[ModelState]) -> list[float]:
    """Return at most PLACES rising event times (seconds) that the curves are read at; none before there are
    two points.
    """
    times = sorted({point[0] for one in models for point in one.curve})
    if len(times) <= PLACES:
        return times if len(times) > 1 else []
    low, step = times[0], (times[-1] - times[0]) / (PLACES - 1)
    return [low + step * k for k in range(PLACES - 1)] + [times[-1]]


def on_grid(models: Sequence[ModelState], grid: Sequence[float], figure: int) -> list[Value]:
    """Return the mean over `models` of their curves' `figure` (1: NE, 2: calibration) at each time of the grid.

    A window's figure holds until the model's next commit, and not beyond its last.
    """
    per_model = [_held(one.curve, grid, figure) for one in models]
    return [_mean(values) for values in zip(*per_model, strict=True)] if per_model else [None] * len(grid)


def _held(curve: Sequence[Point], grid: Sequence[float], figure: int) -> list[Value]:
    times = [point[0] for point in curve]
    found: list[Value] = []
    for time in grid:
        at = bisect_right(times, time) - 1
        value = curve[at][figure] if at >= 0 and time <= times[-1] else None
        found.append(value if isinstance(value, float) else None)
    return found
