"""One trained model's predictions of every sample of its run's log, by several workers, in one commit.

    plan      blocks of rows of the store, as long as those that were trained
    part      a block: predicted with the weights of one checkpoint, written as `backfill-...` by whoever has it
    commit    all blocks, under a name of their own: students take nothing from there, for the model has learned from
              most of these samples by then

Rows, batches and one thread to each worker are fixed by the plan, so that the logits are the same to the bit however
many work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from deltalake.transaction import AddAction

from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.sample_store import SampleStore
from recdistill.models.layers.device import one_thread
from recdistill.models.user_models import importable
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, every_job
from recdistill.storage.location import Location
from recdistill.tables.predictions import PredictionLog
from recdistill.train.learner import Learner
from recdistill.train.predict import check_predicts, newest_of, restored
from recdistill.train.trained import Trained
from recdistill.typing import Array
from recdistill.workers.parts import ALONE, Workers, in_parts

__all__ = ["Backfill", "Span", "backfill", "predict_span", "spans_of"]


@dataclass(frozen=True)
class Backfill:
    """What every worker knows. experiment: as JSON; block: of the checkpoint that predicts."""

    root: Location
    experiment: str
    model: str
    block: int

    @property
    def recorded(self) -> str:
        """The name under which the table of predictions has them."""
        return f"{self.model}.backfill"


@dataclass(frozen=True)
class Span:
    """Rows [low, high) of the store. number: among the plan's."""

    number: int
    low: int
    high: int

    def __str__(self) -> str:
        """Return its name in messages."""
        return f"samples {self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class _Scorer:
    """A restored model over the run's store."""

    store: SampleStore
    learner: Learner
    builder: BatchBuilder
    batch: int

    def logits(self, span: Span) -> Array:
        """Return float32 [rows, tasks]."""
        starts = range(span.low, span.high, self.batch)
        batches = (np.arange(at, min(at + self.batch, span.high)) for at in starts)
        found = [self.learner.predict(self.builder.unlabelled(rows)).cpu().numpy() for rows in batches]
        return np.concatenate(found)


@lru_cache(1)
def _scorer(asked: Backfill) -> _Scorer:
    """Return the model, which a worker keeps from one part to the next."""
    folder, experiment = RunFolder(asked.root), Experiment.model_validate_json(asked.experiment)
    job, store = every_job(experiment)[asked.model], SampleStore(folder.store)
    checkpoints = Checkpoints(folder.model(job.name))
    found = Trained(checkpoints, asked.block, checkpoints.state(asked.block))
    learner = restored(folder, experiment, job, store, found)
    return _Scorer(store, learner, BatchBuilder.of(store, job.config), job.config.batch)


def predict_span(asked: Backfill, span: Span) -> list[AddAction]:
    """Write the predictions of a span's samples, in place of what is there of them; return the files."""
    with one_thread():
        scorer = _scorer(asked)
        logits = scorer.logits(span)
    predictions = PredictionLog.open(RunFolder(asked.root).predictions)
    part = slice(span.low, span.high)
    rows = predictions.rows_of(scorer.store.sample_id[part], scorer.store.time[part], logits)
    name = f"backfill-{asked.block:08d}-{span.number:08d}"
    return predictions.stage(rows, name, model=asked.recorded, version=asked.block, kind="backfill")


def spans_of(rows: int, block_rows: int) -> list[Span]:
    """Return the plan: blocks of `block_rows` rows, the last one shorter."""
    return [Span(k, at, min(at + block_rows, rows)) for k, at in enumerate(range(0, rows, block_rows))]


def backfill(
    folder: RunFolder, experiment: Experiment, job: Job, workers: Workers, progress: Callable[[int], None]
) -> int:
    """Predict every sample of the log with a model's newest checkpoint, and record it; return how many, 0 when that
    was done already. `progress` is called with the samples so far.

    A class that only this process can import is used by this process alone. Raises UserError for a model that is not
    trained, or cannot predict.
    """
    check_predicts(job)
    found = newest_of(folder, job)
    asked = Backfill(folder.root, experiment.model_dump_json(), job.name, found.block)
    predictions, writer = PredictionLog.open(folder.predictions), f"{asked.recorded}@{job.run}"
    if predictions.last_sequence(writer) >= found.block:
        return 0
    spans, files = spans_of(len(SampleStore(folder.store)), job.block_rows), []
    several = workers if importable(job.config.kind) else ALONE
    try:
        for span, written in zip(spans, in_parts(partial(predict_span, asked), spans, several), strict=True):
            files += written
            progress(span.high)
    finally:
        _scorer.cache_clear()
    about = {"model": asked.recorded, "model_version": str(found.block), "learned_rows": str(found.rows)}
    predictions.commit_staged(files, writer=writer, sequence=found.block, metadata={**found.state["metadata"], **about})
    return spans[-1].high
