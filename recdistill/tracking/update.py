"""What a tracker is given: parameters of a run, points of its models' metrics, tags, finished files."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from recdistill.config.experiment import Experiment
from recdistill.config.flat import flat
from recdistill.evaluate.summary import ModelSummary, Summary
from recdistill.train.trainer import Progress

__all__ = ["Point", "Tracker", "Update", "parameters_of", "plain_name", "points_of", "scores_of"]

LONGEST = 200  # characters of a name; MLflow's databases take 250


class Point(NamedTuple):
    """The value of a model's metric after `step` rows; time: seconds since 1970."""

    model: str
    name: str
    step: int
    value: float
    time: float


@dataclass(frozen=True)
class Update:
    """What is new of a run. Everything may be sent again: a tracker keeps the newest."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Point] = ()
    files: Sequence[Path] = ()

    def then(self, later: Update) -> Update:
        """Return both as one."""
        return Update(
            {**self.parameters, **later.parameters},
            {**self.tags, **later.tags},
            [*self.points, *later.points],
            [*self.files, *later.files],
        )


class Tracker(Protocol):
    """One run in one tracker; both methods raise whatever its library raises."""

    def log(self, update: Update) -> None:
        """Store what is new."""
        ...

    def close(self, status: str) -> None:
        """End the session; status: FINISHED, FAILED or KILLED. The run may be taken up again later."""
        ...


def parameters_of(experiment: Experiment) -> dict[str, str]:
    """Return every key of the experiment file with its value as text; lists as JSON."""
    keys = flat(experiment.model_dump(mode="json", exclude={"tracking"}))
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in keys.items()}


def points_of(model: str, at: Progress) -> list[Point]:
    """Return what a model in training shows: progressive metrics of what it predicted so far, speed, coverage."""
    values = {
        "progressive_logloss": at.logloss,
        "progressive_ne": at.ne,
        "rows_per_second": at.rows_per_second,
        "coverage": at.coverage,
    }
    return _points(model, values, at.done)


def scores_of(summary: Summary) -> list[Point]:
    """Return what a run claims: each model's metrics on the window, of the first task and TASK/ of further ones, and
    each student's eta with its interval. What is withheld has no point.
    """
    points = _model_points("teacher", summary.models.teacher)
    for name, student in summary.students.items():
        points += _model_points(f"{name}.raw", student.raw) + _model_points(f"{name}.distilled", student.distilled)
        for metric, eta in student.transferability:
            ends = {f"eta_{metric}": eta.eta, f"eta_{metric}_low": eta.low, f"eta_{metric}_high": eta.high}
            points += _points(name, ends, 0)
    for task, one in summary.further_tasks.items():
        points += _model_points("teacher", one.teacher, f"{task}/")
        for name, student in one.students.items():
            points += _model_points(f"{name}.raw", student.raw, f"{task}/")
            points += _model_points(f"{name}.distilled", student.distilled, f"{task}/")
    return points


def _model_points(model: str, scores: ModelSummary, prefix: str = "") -> list[Point]:
    return _points(model, {f"{prefix}{metric}": scores.metric(metric) for metric in scores.metrics}, 0)


def _points(model: str, values: Mapping[str, float | None], step: int) -> list[Point]:
    now = time.time()
    return [
        Point(model, name, step, value, now)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    ]


def plain_name(name: str, allowed: str = r"\w.\-") -> str:
    """Return a name that every tracker and file system takes; one that had to be changed ends with its hash.

    allowed: the characters that may stay, as inside a regular expression's brackets.
    """
    clean = re.sub(f"[^{allowed}]", "_", name, flags=re.ASCII)[:LONGEST]
    clean = clean.replace("/", "_") if {"", ".", ".."} & set(clean.split("/")) else clean
    clean = f"_{clean[1:]}" if clean.startswith((".", "/")) else clean
    return clean if clean == name else f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
