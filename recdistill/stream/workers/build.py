"""What a model of a stream is made of: where the batch phase left it, its live store, its ways in and out."""

from __future__ import annotations

import time

import numpy as np

from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.data.batch.candidates import Candidates
from recdistill.data.store.live_store import LiveStore
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import handed_over
from recdistill.runs.folder import RunFolder, locked
from recdistill.runs.jobs import Job
from recdistill.runs.names import TEACHER
from recdistill.signals.teacher_signals import rates_of
from recdistill.stream.event_log import Journal
from recdistill.stream.workers.delayed_labels import Decisions
from recdistill.stream.workers.prediction_writer import Recorder
from recdistill.stream.workers.signal_joiner import Joiner
from recdistill.stream.workers.table_follower import Inbox
from recdistill.stream.workers.worker import Follower, RestartFromCheckpoint
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.train.build import learner_of
from recdistill.train.schedule import Plan

__all__ = ["base_of", "follower_of", "run_model", "stream_checkpoints"]


def stream_checkpoints(folder: RunFolder, model: str) -> Checkpoints:
    """Return the checkpoints that a model made while streaming, numbered by the rows it had said."""
    return Checkpoints(folder.model(model) / "stream", keep_sparse=True)


def base_of(folder: RunFolder) -> SampleStore | None:
    """Return the batch phase's store, None when there was no batch phase."""
    store = SampleStore(folder.store) if (folder.store / "store.json").exists() else None
    return store if store is not None and len(store) else None


def follower_of(folder: RunFolder, experiment: Experiment, job: Job, journal: Journal) -> Follower:
    """Return the model as the batch phase left it, ready to `resume`; UserError when that is not over."""
    events, base, stream = EventLog.open(folder.tables / "events"), base_of(folder), experiment.stream
    versions = _start(events)
    behaviors = (folder.tables / "behaviors").exists()
    asked, hears = _candidates(experiment, job, events.schema)
    back = experiment.candidates.window if asked or hears else 0
    store = LiveStore(folder.root / "live" / job.name, events.schema, base, behaviors, back)
    labels = base.labels if base else np.zeros((0, len(events.schema.tasks)), np.float32)
    rates = rates_of(PredictionLog.open(folder.predictions), TEACHER, events.schema.tasks) if job.uses_teacher else None
    learner, metadata = learner_of(folder, job, labels, store.actions, rates)
    blocks = 0
    if base is not None:
        blocks = Plan.of(job.config, len(base), job.block_rows, job.seed).blocks
        latest = Checkpoints(folder.model(job.name)).latest()
        if latest is None or latest[0] != blocks - 1:
            raise UserError(
                f"{folder.root}: {job.name} has not ended its batch phase; run: recdistill stream CONFIG --role batch"
            )
        learner.restore(latest[1].tensors, latest[1].state["learner"])
    count = job.distill.candidates if hears and job.distill else 0
    inbox = Inbox(folder.tables, store, versions, count)
    joiner = (
        Joiner(folder.predictions, folder.verdicts, len(events.schema.tasks), stream.wait_s, TEACHER, count)
        if job.uses_teacher
        else None
    )
    decisions = Decisions(stream.labels, stream.late_s, len(events.schema.tasks)) if stream.labels.window_s else None
    recorder = Recorder(
        PredictionLog.open(folder.predictions),
        job.name,
        job.writer + "/stream",
        metadata,
        blocks,
        stream.checkpoint_rows,
        stream.commit_rows,
    )
    return Follower(
        job,
        stream,
        learner,
        store,
        inbox,
        joiner,
        decisions,
        recorder,
        stream_checkpoints(folder, job.name),
        journal,
        asked,
        hears,
    )


def _candidates(experiment: Experiment, job: Job, schema: EventSchema) -> tuple[Candidates | None, Candidates | None]:
    """Return the candidates that a teacher is asked about, and those that a student hears of."""
    found = Candidates.of(experiment.candidates, schema)
    asked = found if job.distill is None and found.count else None
    return asked, found if job.uses_teacher and job.distill is not None and job.distill.candidates else None


def _start(events: EventLog) -> dict[str, int]:
    """Return where the stream begins, by table: what the hand-over says."""
    handed = handed_over(events)
    if handed is None:
        raise UserError(
            f"{events.path}: there was no hand-over from batch to stream; run: recdistill stream CONFIG --role batch"
        )
    return {"behaviors": -1, "outcomes": -1, **handed.versions}


def run_model(folder: RunFolder, experiment: Experiment, job: Job, journal: Journal) -> None:
    """Run one model until the source has ended, from its newest clean checkpoint, however often it is set back."""
    lock = folder.model(job.name) / "lock"
    with locked(lock, f"{lock.parent}: another process runs this model; wait for it or stop it"):
        if job.uses_teacher:
            _await_teacher(folder, journal)
        while True:
            try:
                follower = follower_of(folder, experiment, job, journal)
                follower.resume()
                return follower.run()
            except RestartFromCheckpoint as reason:
                journal.write("set back", why=str(reason))


def _await_teacher(folder: RunFolder, journal: Journal) -> None:
    """Wait for the first that the teacher says: its commits tell the keep rates it learned under."""
    told = False
    while PredictionLog.open(folder.predictions).newest_metadata(TEACHER) is None:
        if not told:
            journal.write("waiting", what="the teacher's first predictions")
        told = True
        time.sleep(0.2)
