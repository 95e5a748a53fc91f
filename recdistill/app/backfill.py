"""The stage that records a trained model's predictions of the whole log."""

from __future__ import annotations

import time

from recdistill.app.progress import console, print_line
from recdistill.config.experiment import Experiment
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.train.backfill import backfill
from recdistill.workers.parts import Workers

__all__ = ["backfill_stage"]


def backfill_stage(folder: RunFolder, experiment: Experiment, job: Job, workers: int | None) -> int:
    """Predict every sample with a model's newest checkpoint, by `workers` (None: those of the experiment); return how
    many.
    """
    asked, start = experiment.workers, time.perf_counter()
    crew = Workers(workers or asked.count, asked.engine)
    with console.status(f"{job.name}: predicting the log") as status:
        rows = backfill(
            folder, experiment, job, crew, lambda done: status.update(f"{job.name}: predicting the log: {done:,} rows")
        )
    took = f"{rows:,} predictions in {time.perf_counter() - start:.1f} s" if rows else "nothing to do, already recorded"
    print_line(f"{job.name}.backfill: {took} -> {folder.predictions}")
    return rows
