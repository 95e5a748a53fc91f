"""Small streams whose tables are written as ingest and the gate would, and the models that follow them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.readers.base import Log
from recdistill.data.readers.factory import open_log
from recdistill.data.store.sample_store import build_store
from recdistill.runs.batch_ingest import hand_over
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, jobs_of
from recdistill.signals.columns import channels_of
from recdistill.stream.event_log import Journal
from recdistill.stream.progress import IngestProgress, to_metadata
from recdistill.stream.workers.build import run_model, stream_checkpoints
from recdistill.tables.events import EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from recdistill.train import build
from tests.support.processes import exit_code

__all__ = [
    "ROWS",
    "StreamRun",
    "copy_of",
    "ends_as",
    "experiment_of",
    "log_of",
    "models_of",
    "same_tensors",
    "same_weights",
]

ROWS = 3000
CONFIG = """
name: t
data: {reader: simulator, options: {rows: 3000, users: 40, items: 60, days: 1.0, delay_minutes: 0.0}}
teacher: {kind: pooled-mlp, width: 4, history: 20, batch: 50}
students:
  light: {kind: pooled-mlp, width: 4, history: 5, batch: 50, distill: {weight: 1.0}}
evaluate: {seeds: [0]}
checkpoint_rows: 500
stream: {checkpoint_rows: 500, commit_rows: 200, wait_s: 1.0e+9}
"""


def experiment_of(*assignments: str) -> Experiment:
    """Return the experiment of these tests, some keys set."""
    return load_text(CONFIG, list(assignments))


def log_of(experiment: Experiment) -> tuple[Log, pl.DataFrame]:
    """Return the simulated log without features, whose ids would be numbered by the batch store's chunks,
    and its rows.
    """
    log = open_log(experiment.data, None)
    log = replace(log, schema=replace(log.schema, features={}))
    rows = pl.concat(list(log.batches())).select(list(log.schema.columns()))
    return log, rows


def models_of(experiment: Experiment) -> list[Job]:
    """Return the teacher, the raw and the distilled student."""
    teacher, students = jobs_of(experiment)
    return [teacher, *students]


def same_tensors(one: Checkpoint, other: Checkpoint) -> bool:
    """Return whether everything that `one` holds stands bit for bit in `other`."""
    return all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Return whether two checkpoints hold the same weights and the same optimiser, bit for bit."""
    learned = [name for name in one.tensors if name.split("/")[0] in ("network", "table", "optimiser")]
    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in learned)


@dataclass
class StreamRun:
    """A run's folder with `batch` rows handed over; more is committed by `feed`."""

    root: Path
    experiment: Experiment
    batch: int

    def __post_init__(self) -> None:
        self.folder = RunFolder(self.root)
        self.log, self.rows = log_of(self.experiment)
        self.events = EventLog.create(self.folder.tables / "events", self.log.schema)
        self.fed = self.commits = 0
        tasks = self.log.schema.tasks
        PredictionLog.create(self.folder.predictions, tasks, channels_of(self.experiment, tasks))
        self.verdicts = VerdictLog.create(self.folder.verdicts)
        if self.experiment.labels.window_s:
            self.outcomes = OutcomeLog.create(self.folder.tables / "outcomes", self.log.schema)
        if self.batch:
            self.events.append(self.rows[: self.batch], writer="ingest", sequence=0)
            self.fed = self.batch
        version = hand_over(self.folder).versions["events"]
        if self.batch:
            build_store(self.folder.store, self.events, None, {"events": version, "behaviors": None})
            for job in models_of(self.experiment):
                list(build.trainer_of(self.folder, self.experiment, job).run_to_end())

    def feed(
        self, stop: int, end: bool = False, seen: dict[str, int] | None = None, rows: pl.DataFrame | None = None
    ) -> None:
        """Commit the rows up to `stop` as ingest would."""
        rows = self.rows[self.fed : stop] if rows is None else rows
        self.fed, self.commits = stop, self.commits + 1
        watermark = int(self.rows[:stop]["time"].dt.epoch("us").max()) if stop else 0
        progress = IngestProgress(watermark=watermark, rows=stop - self.batch, seen=seen or {}, end=end)
        self.events.append(rows, writer="ingest", sequence=self.commits, metadata=to_metadata(progress))

    def feed_all(self, cuts: Sequence[int]) -> None:
        """Commit all rows, cut there, and the end of the source."""
        for cut in [*cuts, ROWS]:
            self.feed(cut, end=cut == ROWS)

    def approve(self, versions: Iterable[int], verdict: str = "approved") -> None:
        """Commit a verdict about teacher versions."""
        for version in versions:
            row = VerdictLog.row("teacher", version, verdict, rows=10**6)  # type: ignore[arg-type]
            self.verdicts.append(row, writer="gate", sequence=self.verdicts.last_sequence("gate") + 1)

    def run(self, job: Job) -> Checkpoint:
        """Run one model to the end of the source; return its newest checkpoint."""
        run_model(self.folder, self.experiment, job, Journal(self.folder.logs, job.name))
        return self.newest(job)

    def newest(self, job: Job) -> Checkpoint:
        """Return a model's newest checkpoint of the stream."""
        latest = stream_checkpoints(self.folder, job.name).latest()
        if latest is None:
            raise AssertionError(f"{job.name} has no checkpoint")
        return latest[1]

    def predictions(self) -> pl.DataFrame:
        """Return what all models predicted, by model and sample."""
        rows = PredictionLog.open(self.folder.predictions).scan().collect().drop("version")
        return rows.sort("model", "sample_id")

    def process(self, job: Job, point: str) -> int | None:
        """Run one model in a process of its own that is killed at `point`; return its exit code."""
        code = (
            "import sys; from pathlib import Path; from tests.support.stream_runs import *;"
            "import tests.support.stream_runs as r;"
            "from recdistill.config.experiment import Experiment; e = Experiment.model_validate_json(sys.argv[2]);"
            "job = next(j for j in models_of(e) if j.name == sys.argv[3]); f = r.RunFolder(Path(sys.argv[1]));"
            "r.run_model(f, e, job, r.Journal(f.logs, job.name))"
        )
        return exit_code(code, self.root, self.experiment.model_dump_json(), job.name, point=point)


def copy_of(run: StreamRun, root: Path) -> StreamRun:
    """Return a copy of the run, to go on with."""
    shutil.copytree(run.root, root)
    other = object.__new__(StreamRun)
    other.__dict__.update(run.__dict__)
    other.root, other.folder = root, type(run.folder)(root)
    other.verdicts = type(run.verdicts)(other.folder.verdicts)
    return other


def ids(rows: pl.DataFrame) -> np.ndarray:
    """Return the sample ids."""
    return rows["sample_id"].to_numpy()


def ends_as(whole: StreamRun, job: Job, got: Checkpoint) -> bool:
    """Return whether a model that streamed ended, bit for bit, as that of the batch run `whole`."""
    want = Checkpoints(whole.folder.model(job.name)).latest()
    return want is not None and same_tensors(want[1], got)
