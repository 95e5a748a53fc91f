"""Students from labels alone, of paired seeds, and what one's scores have over another's with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recdistill.config.experiment import Experiment
from recdistill.evaluate.transferability import bootstrap, draw_all, over_seeds
from recdistill.evaluate.window import Frame, logits_of
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from recdistill.typing import Array

__all__ = ["interval", "recorded", "replicates", "trained"]

REPLICATES, CONFIDENCE = 1000, 0.95
METRICS = ("gauc", "ne")


def trained(run: RunFolder, experiment: Experiment, jobs: Sequence[Job]) -> None:
    """Train the jobs one after the other."""
    for job in jobs:
        for _ in build.trainer_of(run, experiment, job).run_to_end():
            pass


def recorded(run: RunFolder, frame: Frame, jobs: Sequence[Job], task: str) -> list[Array]:
    """Return float64 [rows of the frame] logits per job, each recorded before its sample was learned."""
    predictions = PredictionLog.open(run.predictions)
    return [logits_of(predictions, predictions.version, job.name, task, frame.ids, 0.0) for job in jobs]


def replicates(frame: Frame, logits: Mapping[str, list[Array]]) -> dict[str, dict[str, Array]]:
    """Return per name and metric the mean over its seeds' logits as drawn, float64 [1 + REPLICATES]; every name has the
    same seeds, and is drawn alike.
    """
    samples = frame.samples
    drawn = draw_all(samples.users, 1, len(next(iter(logits.values()))), REPLICATES)
    found = {}
    for name, of_seeds in logits.items():
        values = bootstrap(samples, of_seeds, drawn.bundle, drawn.weights)
        found[name] = {metric: over_seeds(values[metric], drawn.students) for metric in METRICS}
    return found


def interval(values: Array) -> str:
    """Return the estimate and its interval, of [1 + REPLICATES]."""
    low, high = np.nanquantile(values[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return f"{values[0]:+.4f} ({low:+.4f} ... {high:+.4f})"
