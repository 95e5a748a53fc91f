"""One model on the scored window: all figures that need its logits and no other's, by any worker.

    plan      the models of a task, on the window or on a domain's rows of it
    part      a model: its logits are read, scored and drawn again, and written where the window lies
    commit    the caller's: it puts the models' figures together to a summary

The window is memory-mapped, so that workers share it. Sums are taken in one order, so that figures are the same to the
bit however many work.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from recdistill.evaluate import metrics
from recdistill.evaluate.breakdown import PartScores, Point, points, sliced
from recdistill.evaluate.model_facts import ModelFacts, StudentModels
from recdistill.evaluate.resampling import UnitDraws, drawn_by, time_blocks
from recdistill.evaluate.transferability import replicates_of, user_weights
from recdistill.evaluate.window import Frame, codes_of, logits_of
from recdistill.storage.location import Location
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.regression import Regression
from recdistill.typing import Array

__all__ = [
    "WHOLE",
    "Asked",
    "ModelScores",
    "Scored",
    "logits_asked",
    "model_scores",
    "parts_of",
    "plan_of",
    "scores_of",
]

WHOLE = "whole"  # the part of the window that is all of it


@dataclass(frozen=True)
class Scored:
    """A model on the window `part` below the folder. log_odds_offset: see `logits_of`; compared: the teachers whose
    logits it is compared with over time.
    """

    name: str
    log_odds_offset: float
    part: str
    compared: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        """Return its name in messages."""
        return self.name


@dataclass(frozen=True)
class Asked:
    """What every worker knows. folder: where the windows lie; predictions: the table, at `version`; replicates: how
    often users, items and stretches of time are drawn.
    """

    folder: Path
    predictions: Location
    version: int
    task: str
    regression: Regression | None
    replicates: int


@dataclass(frozen=True)
class ModelScores:
    """gauc_by: GAUC by what rows are grouped by; ne: NE, whether or not the level of logits is known, NaN of a
    regression; drawn: per metric float64 [1 + R] where users are drawn; drawn_by: likewise where others are; points:
    over time; slices: those of enough rows; bins: of calibration, as (predicted, observed, rows).
    """

    whole: metrics.Scores
    gauc_by: dict[str, float]
    ne: float
    drawn: dict[str, Array]
    drawn_by: dict[str, UnitDraws]
    points: list[Point]
    slices: list[PartScores]
    bins: list[tuple[float, float, int]]


def parts_of(students: dict[str, StudentModels]) -> dict[str, str]:
    """Return the part of the window on which each student is scored; students of one domain have one."""
    first: dict[str, str] = {}
    for name, one in students.items():
        first.setdefault(json.dumps(one.domain, sort_keys=True), f"of-{name}" if one.domain else WHOLE)
    return {name: first[json.dumps(one.domain, sort_keys=True)] for name, one in students.items()}


def plan_of(teachers: Sequence[ModelFacts], students: dict[str, StudentModels], parts: dict[str, str]) -> list[Scored]:
    """Return the plan: every model once on every part of the window on which it is scored."""
    taught = tuple((one.name, one.log_odds_offset) for one in teachers)
    found = {
        (part, one.name): Scored(one.name, one.log_odds_offset, part)
        for part in dict.fromkeys([WHOLE, *parts.values()])
        for one in teachers
    }
    for name, models in students.items():
        for one in models.all:
            found[parts[name], one.name] = Scored(one.name, one.log_odds_offset, parts[name], taught)
    return list(found.values())


def model_scores(frame: Frame, logit: Array, teachers: Sequence[Array], replicates: int) -> ModelScores:
    """Return a model's figures from its logits [N], of a regression its values, and those of teachers."""
    samples, whole = frame.samples, slice(None)
    bundle, weights = user_weights(samples.users, replicates, np.random.default_rng(0))
    units = {"item": codes_of(frame.rows["item_id"]), "time": time_blocks(len(frame.ids))}
    y, w = samples.label, samples.weight
    groups = {} if samples.regression else frame.groups
    return ModelScores(
        whole=frame.where(whole).scores(logit),
        gauc_by={name: metrics.gauc(y, logit, codes, w) for name, codes in groups.items()},
        ne=float("nan") if samples.regression else metrics.normalized_entropy(y, logit, w),
        drawn=replicates_of(samples, logit, bundle, weights),
        drawn_by=drawn_by(samples, logit, units, replicates),
        points=points(frame, logit, teachers),
        slices=sliced(frame, logit, bundle, weights),
        bins=[] if frame.levels_why or samples.regression else metrics.calibration_bins(y, logit, weight=w),
    )


@lru_cache(2)
def _window(folder: Path) -> Frame:
    return Frame.open(folder)


def logits_asked(asked: Asked, ids: Array, name: str, log_odds_offset: float) -> Array:
    """Return float32 [N], a model's logits of `ids` as `logits_of` does; of a regression its values, float64."""
    predictions = PredictionLog.open(asked.predictions)
    found = logits_of(predictions, asked.version, name, asked.task, ids, log_odds_offset)
    return found if asked.regression is None else asked.regression.values(found)


def scores_of(asked: Asked, model: Scored) -> ModelScores:
    """Return the figures of a model; RecdistillError where it has no prediction of some row."""
    frame = _window(asked.folder / model.part)
    logit = logits_asked(asked, frame.ids, model.name, model.log_odds_offset)
    return model_scores(
        frame, logit, [logits_asked(asked, frame.ids, *one) for one in model.compared], asked.replicates
    )
