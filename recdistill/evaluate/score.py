"""A run's summary: every model scored on the window, students against the teacher, all from the two tables."""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.config import EvaluateConfig
from recdistill.evaluate import metrics
from recdistill.evaluate.query import Frame, load_window, logits_of
from recdistill.evaluate.slices import curve, slices
from recdistill.evaluate.summary import (
    Bin,
    Details,
    ModelSummary,
    StudentSummary,
    Summary,
    Transfer,
    Transferability,
    Versions,
    Window,
    summarise,
)  # fmt: skip
from recdistill.evaluate.transfer import Transferred, transferability
from recdistill.tables import EventLog, PredictionLog

__all__ = ["ModelFacts", "StudentModels", "score"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ModelFacts:
    """What scoring cannot see in the tables. shift: log(k+ / k-) that sampling left in its logits."""

    name: str
    seed: int
    shift: float
    dense_parameters: int
    sparse_parameters: int
    rows_per_second: float
    coverage: float


@dataclass(frozen=True)
class StudentModels:
    """A student's raw and distilled models, paired by position."""

    raw: list[ModelFacts]
    distilled: list[ModelFacts]


def _summary_of(frame: Frame, models: list[ModelFacts], logits: list[Array]) -> ModelSummary:
    y, group = frame.samples.label, frame.samples.group
    values = {
        "auc": [metrics.auc(y, z) for z in logits], "gauc": [metrics.gauc(y, z, group) for z in logits],
        "logloss": [metrics.logloss(y, z) for z in logits], "ne": [metrics.normalized_entropy(y, z) for z in logits],
        "calibration": [metrics.calibration(y, z) for z in logits], "ece": [metrics.ece(y, z) for z in logits],
    }  # fmt: skip
    return ModelSummary(
        **{name: float(np.mean(seeds)) for name, seeds in values.items()},
        std={name: float(np.std(seeds, ddof=1)) for name, seeds in values.items() if len(seeds) > 1},
        why={name: "needs both classes in the window" for name, seeds in values.items() if not math.isfinite(float(np.mean(seeds)))},
        dense_parameters=models[0].dense_parameters, sparse_parameters=models[0].sparse_parameters,
        rows_per_second=float(np.mean([m.rows_per_second for m in models])), seeds=[m.seed for m in models],
    )  # fmt: skip


def _transfer(found: Transferred) -> Transfer:
    return Transfer(eta=found.eta, low=found.low, high=found.high, teacher_gain=found.teacher_gain, why=found.why)


def _bins(frame: Frame, logits: list[Array]) -> list[Bin]:
    parts = metrics.calibration_bins(frame.samples.label, logits[0])
    return [Bin(predicted=p, observed=o, count=n) for p, o, n in parts]


def _versions(events: int, predictions: int) -> Versions:
    packages = {name: importlib.metadata.version(name) for name in ("torch", "polars", "deltalake", "numpy")}
    return Versions(events=events, predictions=predictions, packages=packages)


def score(
    name: str, tables: Path, teacher: ModelFacts, students: dict[str, StudentModels], config: EvaluateConfig
) -> Summary:
    """Return the summary of a run whose tables lie in `tables` (events) and beside it (predictions)."""
    events, predictions = EventLog.open(tables / "events"), PredictionLog.open(tables.parent / "predictions")
    pinned, said = events.version, predictions.version
    task = events.schema.tasks[0]
    frame = load_window(events, pinned, task, config.start, config.group)

    def of(model: ModelFacts) -> Array:
        return logits_of(predictions, said, model.name, task, frame.ids, model.shift)

    top = of(teacher)
    answers: dict[str, StudentSummary] = {}
    shown: dict[str, list[Array]] = {}
    for student, models in students.items():
        raw, distilled = [of(m) for m in models.raw], [of(m) for m in models.distilled]
        shown = shown or {"teacher": [top], "raw": raw, "distilled": distilled}
        found = transferability(
            frame.samples, top, raw, distilled, replicates=config.bootstrap, confidence=config.confidence
        )
        answers[student] = StudentSummary(
            raw=_summary_of(frame, models.raw, raw), distilled=_summary_of(frame, models.distilled, distilled),
            transferability=Transferability(**{metric: _transfer(answer) for metric, answer in found.items()}),
            coverage=float(np.mean([m.coverage for m in models.distilled])),
        )  # fmt: skip
    details = Details(
        curves={model: curve(frame, logits) for model, logits in shown.items()},
        calibration={model: _bins(frame, logits) for model, logits in shown.items()}, slices=slices(frame, shown),
    )  # fmt: skip
    time = frame.rows["time"]
    return summarise(
        teacher=_summary_of(frame, [teacher], [top]), students=answers, name=name, created=datetime.now(UTC),
        tasks=list(events.schema.tasks), group=config.group, confidence=config.confidence, rows=len(frame.ids),
        window=Window(start=time[0], end=time[-1], share=config.start), versions=_versions(pinned, said), details=details,
    )  # fmt: skip
