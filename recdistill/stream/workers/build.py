"""What a model of a stream is made of: where the batch phase left it, its live store, its connections."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.data.batch.candidates import Candidates
from recdistill.data.store.frozen_vectors import VECTORS, open_vectors
from recdistill.data.store.live_store import LiveStore
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.runs.batch_ingest import handed_over
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.runs.names import TEACHER
from recdistill.signals.teacher_signals import rates_of
from recdistill.stream.event_log import Journal
from recdistill.stream.workers.cutter import Cutter
from recdistill.stream.workers.delayed_labels import DelayedLabels
from recdistill.stream.workers.prediction_writer import PredictionWriter, Versions
from recdistill.stream.workers.signal_joiner import SignalJoiner
from recdistill.stream.workers.table_follower import TableFollower
from recdistill.stream.workers.worker import Connections, RestartFromCheckpoint, Worker
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.train.build import learner_of
from recdistill.train.learner import Learner
from recdistill.train.schedule import Plan

__all__ = ["base_of", "live_folder", "run_model", "stream_checkpoints", "worker_of"]


def stream_checkpoints(folder: RunFolder, model: str) -> Checkpoints:
    """Return the checkpoints that a model made while streaming, numbered by the rows it had predicted."""
    return Checkpoints(folder.model(model) / "stream", keep_sparse=True)


def live_folder(folder: RunFolder, job: Job) -> Path:
    """Return where a model of a stream keeps the ids and the histories that it met."""
    return folder.local / "live" / job.name


def base_of(folder: RunFolder) -> SampleStore | None:
    """Return the batch phase's store, None when there was no batch phase."""
    store = SampleStore(folder.store) if (folder.store / "store.json").exists() else None
    return store if store is not None and len(store) else None


def worker_of(folder: RunFolder, experiment: Experiment, job: Job, journal: Journal) -> Worker:
    """Return the model as the batch phase left it, ready to `resume`; UserError when that is not over."""
    events, base, stream = EventLog.open(folder.tables / "events"), base_of(folder), experiment.stream
    tasks, versions = events.schema.tasks, _start(events)
    scored, learned = _candidates(experiment, job, events.schema)
    back = experiment.candidates.window if scored or learned else 0
    behaviors = (folder.tables / "behaviors").exists()
    vectors = open_vectors(folder.tables / VECTORS, events.schema)
    store = LiveStore(live_folder(folder, job), events.schema, base, behaviors, back, vectors)
    labels = base.labels if base else np.zeros((0, len(tasks)), np.float32)
    rates = rates_of(PredictionLog.open(folder.predictions), TEACHER, tasks) if job.uses_teacher else None
    learner, metadata = learner_of(folder, job, labels, store.actions, rates)
    blocks = _restore_batch_phase(folder, job, learner, base) if base is not None else 0
    count = job.distill.candidates if learned and job.distill else 0
    joiner = None
    if job.uses_teacher:
        joiner = SignalJoiner(folder.predictions, folder.verdicts, len(tasks), stream.wait_s, TEACHER, count)
    connections = Connections(
        TableFollower(folder.tables, store, versions, count),
        joiner,
        DelayedLabels(experiment.labels, stream.late_s, len(tasks)) if experiment.labels.window_s else None,
        PredictionWriter(
            PredictionLog.open(folder.predictions),
            job.name,
            job.writer + "/stream",
            metadata,
            Versions(blocks, stream.checkpoint_rows),
            stream.commit_rows,
        ),
        stream_checkpoints(folder, job.name),
    )
    cutter = Cutter(store, job, learner.sampling, scored, learned)
    return Worker(job, stream, learner, store, cutter, connections, journal)


def _restore_batch_phase(folder: RunFolder, job: Job, learner: Learner, base: SampleStore) -> int:
    """Give the learner the state in which the batch phase left it; return that phase's blocks."""
    blocks = Plan.of(job.config, len(base), job.block_rows, job.seed).blocks
    latest = Checkpoints(folder.model(job.name)).latest()
    if latest is None or latest[0] != blocks - 1:
        raise UserError(
            f"{folder.root}: {job.name} has not ended its batch phase; run: recdistill stream CONFIG --role batch"
        )
    learner.restore(latest[1].tensors, latest[1].state["learner"])
    return blocks


def _candidates(experiment: Experiment, job: Job, schema: EventSchema) -> tuple[Candidates | None, Candidates | None]:
    """Return the candidates that a teacher scores, and those whose signals a student learns from."""
    found = Candidates.of(experiment.candidates, schema)
    scored = found if job.distill is None and found.count else None
    return scored, found if job.uses_teacher and job.distill is not None and job.distill.candidates else None


def _start(events: EventLog) -> dict[str, int]:
    """Return where the stream begins, by table, as the hand-over has it."""
    handed = handed_over(events)
    if handed is None:
        raise UserError(
            f"{events.path}: there was no hand-over from batch to stream; run: recdistill stream CONFIG --role batch"
        )
    return {"behaviors": -1, "outcomes": -1, **handed.versions}


def run_model(folder: RunFolder, experiment: Experiment, job: Job, journal: Journal) -> None:
    """Run one model until the source has ended, from its newest clean checkpoint, however often it must go back."""
    lock = folder.lock(job.name)
    with locked(lock, f"{lock.parent}: another process runs this model; wait for it or stop it"):
        if job.uses_teacher:
            _await_teacher(folder, journal)
        while True:
            try:
                worker = worker_of(folder, experiment, job, journal)
                worker.resume()
                return worker.run()
            except RestartFromCheckpoint as reason:
                journal.write("restart from checkpoint", why=str(reason))


def _await_teacher(folder: RunFolder, journal: Journal) -> None:
    """Wait for the first predictions of the teacher: their metadata has the keep rates it learned under."""
    reported = False
    while PredictionLog.open(folder.predictions).newest_metadata(TEACHER) is None:
        if not reported:
            journal.write("waiting", what="the teacher's first predictions")
        reported = True
        time.sleep(0.2)
