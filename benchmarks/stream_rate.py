"""Streaming rows/s over batch rows/s: `python benchmarks/stream_rate.py`. Budget: 0.8 for each student.

The same log twice: learned in batch, and followed as a stream whose commits of 2,000 rows are all there already, so
that nothing is waited for. The stream reads, encodes, joins, learns, records four times a second and keeps a checkpoint
every 20,000 rows; the batch reads a store that was built before. Both are timed from a model of an earlier checkpoint
to the end, and the ratios of three runs each are compared pair by pair.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from _common import SCHEMA, event_chunks, report

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.store.sample_store import build_store
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, jobs_of
from recdistill.runs.names import TEACHER
from recdistill.stream.event_log import Journal
from recdistill.stream.progress import IngestProgress, ModelProgress, to_metadata
from recdistill.stream.workers.build import worker_of
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from recdistill.train import build

__all__ = ["BUDGET", "main"]

BUDGET = 0.8
ROWS, COMMIT, REPEATS = 300_000, 2_000, 3
STUDENTS = {
    "target attention 16, 50 events, batch 64": "{kind: target-attention, width: 16, history: 50, "
    "batch: 64, options: {kernels: 4, rich: true}}",
    "din 16, 50 events, batch 512": "{kind: din, width: 16, history: 50, batch: 512}",
}


def _experiment(student: str) -> Experiment:
    return load_text(f"{{name: rate, data: {{}}, students: {{light: {student}}}, evaluate: {{seeds: [0]}}}}")


def _prepare(root: Path, batch: bool, experiment: Experiment) -> RunFolder:
    """Write the log, and a teacher's record of it, as a batch run or as a stream has them."""
    folder = RunFolder(root)
    events = EventLog.create(folder.tables / "events", SCHEMA)
    predictions = PredictionLog.create(folder.predictions, SCHEMA.tasks)
    rows = pl.concat(list(event_chunks(ROWS, users=2_000, items=20_000)))
    events.mark("handover", 0, {})
    draw = np.random.default_rng(0)
    for at in range(0, ROWS, COMMIT):
        part = rows[at : at + COMMIT]
        watermark = int(part["time"].dt.epoch("us").max())  # type: ignore[arg-type]
        progress = IngestProgress(watermark=watermark, rows=at + len(part), end=at + len(part) == ROWS)
        events.append(part, writer="ingest", sequence=at, new_ids=True, metadata=to_metadata(progress))
        logit = pl.Series(draw.normal(-1.4, 1, len(part)), dtype=pl.Float32)
        metadata = {
            "keep_rates": '{"click": [1.0, 1.0]}',
            **({} if batch else to_metadata(ModelProgress(end=progress.end))),
        }
        predictions.append(
            part.select("sample_id", "time", logit_click=logit),
            model=TEACHER,
            version=at // 20_000,
            kind="prequential",
            writer="teacher",
            sequence=at,
            metadata=metadata,
            new_samples=True,
        )
    verdicts = VerdictLog.create(folder.verdicts)
    for version in range(ROWS // 20_000):
        verdicts.append(VerdictLog.row(TEACHER, version, "approved", rows=ROWS), writer="gate", sequence=version)
    if batch:
        build_store(folder.store, events, None)
    return folder


def _seconds(folder: RunFolder, experiment: Experiment, job: Job, batch: bool) -> float:
    if batch:
        trainer = build.trainer_of(folder, experiment, job)
        start = time.perf_counter()
        list(trainer.run_to_end())
    else:
        worker = worker_of(folder, experiment, job, Journal(folder.logs, job.name))
        worker.resume()
        start = time.perf_counter()
        worker.run()
    return time.perf_counter() - start


def main() -> int:
    """Measure every student, distilled; the budget is for each."""
    rows, met = [], True
    for name, student in STUDENTS.items():
        experiment = _experiment(student)
        distilled = jobs_of(experiment)[1][1]
        pairs = []
        with tempfile.TemporaryDirectory() as place:
            for k in range(REPEATS):
                sides = {batch: _prepare(Path(place) / f"{k}-{batch}", batch, experiment) for batch in (True, False)}
                order = (True, False) if k % 2 else (False, True)
                seconds = {batch: _seconds(sides[batch], experiment, distilled, batch) for batch in order}
                pairs.append((ROWS / seconds[True], ROWS / seconds[False]))
        ratio = statistics.median(stream / batch for batch, stream in pairs)
        met &= ratio >= BUDGET
        rows.append([name, *(f"{statistics.median(side):,.0f}" for side in zip(*pairs, strict=True)), f"{ratio:.2f}"])
    columns = ["student", "batch rows/s", "stream rows/s", "ratio"]
    return report(f"{ROWS:,} rows, distilled student, one process", columns, rows, met, f">= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
