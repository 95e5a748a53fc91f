"""What a model of a stream is made of: where the batch phase left it, its live store, its connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.data.batch.candidates import Candidates
from recdistill.data.store.frozen_vectors import VECTORS, open_vectors
from recdistill.data.store.live_store import LiveStore
from recdistill.data.store.sample_store import SampleStore
from recdistill.distributed.ranks import ALONE, Ranks
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
from recdistill.stream.workers.shared_steps import Begin, SharedSteps, follow
from recdistill.stream.workers.signal_joiner import SignalJoiner
from recdistill.stream.workers.table_follower import TableFollower
from recdistill.stream.workers.worker import Connections, RestartFromCheckpoint, Worker
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.train.build import learner_of
from recdistill.train.learner import Learner
from recdistill.train.schedule import Plan

__all__ = ["await_teacher", "base_of", "live_folder", "run_model", "run_ranked", "stream_checkpoints", "worker_of"]


def stream_checkpoints(folder: RunFolder, model: str, ranks: Ranks = ALONE) -> Checkpoints:
    """Return the checkpoints that a model made while streaming, numbered by the rows it had predicted; ranks: those
    that call it together.
    """
    return Checkpoints(folder.model(model) / "stream", keep_sparse=True, ranks=ranks)


def live_folder(folder: RunFolder, job: Job) -> Path:
    """Return where a model of a stream keeps the ids and the histories that it met."""
    return folder.local / "live" / job.name


def base_of(folder: RunFolder) -> SampleStore | None:
    """Return the batch phase's store, None when there was no batch phase."""
    store = SampleStore(folder.store) if (folder.store / "store.json").exists() else None
    return store if store is not None and len(store) else None


def worker_of(folder: RunFolder, experiment: Experiment, job: Job, journal: Journal, ranks: Ranks = ALONE) -> Worker:
    """Return the model as the batch phase left it, ready to `resume`; UserError when that is not over."""
    events, base, stream = EventLog.open(folder.tables / "events"), base_of(folder), experiment.stream
    tasks, versions = events.schema.tasks, _start(events)
    scored, learned = _candidates(experiment, job, events.schema)
    back = experiment.candidates.window if scored or learned else 0
    behaviors = (folder.tables / "behaviors").exists()
    vectors = open_vectors(folder.tables / VECTORS, events.schema)
    store = LiveStore(live_folder(folder, job), events.schema, base, behaviors, back, vectors)
    rates = rates_of(PredictionLog.open(folder.predictions), TEACHER, tasks) if job.uses_teacher else None
    learner, metadata, blocks = _learner(folder, job, base, Begin(None, store.actions, rates), ranks)
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
        stream_checkpoints(folder, job.name, replace(ranks, group=ranks.writing)),
    )
    cutter = Cutter(store, job, learner.sampling, scored, learned)
    return Worker(job, stream, SharedSteps(learner, ranks), store, cutter, connections, journal)


def _learner(
    folder: RunFolder, job: Job, base: SampleStore | None, how: Begin, ranks: Ranks
) -> tuple[Learner, dict[str, str], int]:
    """Return the learner as the batch phase left it, the metadata of its commits, and that phase's blocks."""
    tasks = EventLog.open(folder.tables / "events").schema.tasks
    labels = base.labels if base else np.zeros((0, len(tasks)), np.float32)
    learner, metadata = learner_of(folder, job, labels, how.actions, how.rates, ranks=ranks)
    return learner, metadata, _restore_batch_phase(folder, job, learner, base) if base is not None else 0


def _restore_batch_phase(folder: RunFolder, job: Job, learner: Learner, base: SampleStore) -> int:
    """Give the learner the state and the rates in which the batch phase left it; return that phase's blocks."""
    blocks = Plan.of(job.config, len(base), job.block_rows, job.seed).blocks
    checkpoints = Checkpoints(folder.model(job.name))
    if checkpoints.newest() != blocks - 1:
        raise UserError(
            f"{folder.root}: {job.name} has not ended its batch phase; run: recdistill stream CONFIG --role batch"
        )
    learner.restore(checkpoints.stored(blocks - 1), checkpoints.state(blocks - 1)["learner"])
    learner.at_share(1.0)  # the rates stay at their end, also where the model goes on from a checkpoint of the stream
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


def run_model(folder: RunFolder, experiment: Experiment, job: Job, journal: Journal, ranks: Ranks = ALONE) -> None:
    """Run one model until the source has ended, from its newest clean checkpoint, however often it must go back; ranks:
    those that share its steps.
    """
    lock = folder.lock(job.name)
    with locked(lock, f"{lock.parent}: another process runs this model; wait for it or stop it"):
        if job.uses_teacher:
            await_teacher(folder, lambda: journal.write("waiting", what="the teacher's first predictions"))
        while True:
            try:
                worker = worker_of(folder, experiment, job, journal, ranks)
                worker.resume()
                return worker.run()
            except RestartFromCheckpoint as reason:
                journal.write("restart from checkpoint", why=str(reason))


def run_ranked(folder: RunFolder, experiment: Experiment, job: Job, ranks: Ranks) -> None:
    """Run one model as one of several ranks; the first one is as `run_model`, the others do what it orders. A model
    with a teacher is run once that has predicted something. UserError for what ranks cannot share.
    """
    if ranks.first:
        Checkpoints(folder.model(job.name) / "stream").clear()
        return run_model(folder, experiment, job, Journal(folder.logs, job.name), ranks)
    base = base_of(folder)

    def made(how: Begin) -> Learner:
        learner, _, _ = _learner(folder, job, base, how, ranks)
        if how.block is not None:
            checkpoints = stream_checkpoints(folder, job.name)
            learner.restore(checkpoints.stored(how.block), checkpoints.state(how.block)["learner"])
        return learner

    writing = replace(ranks, group=ranks.writing)
    follow(ranks, made, stream_checkpoints(folder, job.name, writing))


def await_teacher(folder: RunFolder, waiting: Callable[[], None]) -> None:
    """Wait for the first predictions of the teacher, whose metadata has the keep rates it learned under; call `waiting`
    once where there are none yet.
    """
    reported = False
    while PredictionLog.open(folder.predictions).newest_metadata(TEACHER) is None:
        if not reported:
            waiting()
        reported = True
        time.sleep(0.2)
