"""The stages behind `recdistill stream`: the batch phase, then every process of the streaming phase, then the scores.

batch     reads the first rows into the tables, hands over, trains every model on them
publish   replays the rest of a log into the broker           gate      judges what teachers predict
ingest    broker -> events, behaviors, outcomes               compact   merges small files, lets old days go
MODEL     events (+ predictions, verdicts) -> predictions, weights
"""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from recdistill.app.data_summary import data_of, print_data
from recdistill.app.model_facts import model_facts
from recdistill.app.progress import console, print_line
from recdistill.app.results import publish_results
from recdistill.app.run import open_run, train_stage
from recdistill.app.scores import print_summary
from recdistill.app.shadow import with_shadows
from recdistill.config.experiment import Experiment
from recdistill.config.stream import SourceConfig
from recdistill.data.store.frozen_vectors import missing_vectors
from recdistill.data.store.label_order import LabelClock
from recdistill.data.store.sample_store import build_store
from recdistill.distributed.launch import joined
from recdistill.errors import UserError, did_you_mean
from recdistill.evaluate.label_lag import label_lag, lag_sentence
from recdistill.evaluate.model_facts import ModelFacts, StudentModels, TrainingCosts
from recdistill.evaluate.score import score
from recdistill.evaluate.summary import write_summary
from recdistill.runs.batch_ingest import hand_over, handed_over, ingest, open_tables, workers_of
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, jobs_by_name, jobs_of
from recdistill.runs.names import TEACHER
from recdistill.signals.columns import channels_of
from recdistill.storage.location import Location
from recdistill.storage.objects import ObjectPath
from recdistill.stream.event_log import Journal
from recdistill.stream.gate.process import run_gate
from recdistill.stream.ingest.process import ingests, readers_of, run_ingest
from recdistill.stream.maintenance.compact import run_compact
from recdistill.stream.prefork import Prefork, await_role
from recdistill.stream.progress import ModelProgress, read_progress
from recdistill.stream.sources.factory import open_source, source_tables
from recdistill.stream.sources.local_nats import local_nats, server_url
from recdistill.stream.sources.replay import run_publish
from recdistill.stream.supervisor import supervise
from recdistill.stream.workers.build import await_teacher, run_model, run_ranked, stream_checkpoints
from recdistill.tables.delta.commits import commits_back
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from recdistill.train import build

__all__ = ["batch_stage", "roles_of", "run_alone", "run_by_ranks", "run_child", "run_role", "run_stream", "score_stage"]

NO_WINDOW = (
    "warning: the log says when labels were known, but a stream without labels.window_s learns them with their "
    "samples; set labels.window_s"
)
STATUS_EVERY = 10.0  # seconds
# The only values of a student's `distill` that a stream supports.
SUPPORTED = {"teachers": [TEACHER], "teacher_hidden": 0, "start": 0.0, "share": 1.0}


def run_stream(experiment: Experiment, data: Path | None, out: Location | None, processes: Prefork) -> None:
    """Run the whole stream until its source has ended; run it again to resume. processes: of the run's folder."""
    _check(experiment)
    if isinstance(out, ObjectPath) and _own_broker(experiment.stream.source):
        raise UserError(f"{out}: a broker of the run's own lies in its folder; set stream.source.url, or kind: table")
    with open_run(experiment, data, out) as folder:
        batch_stage(folder, experiment, data)
        _run_all(folder, experiment, processes)
        score_stage(folder, experiment)


def run_alone(experiment: Experiment, data: Path | None, out: Location | None, role: str) -> None:
    """Run one role of a stream until its source has ended; UserError in an object store, where one command has all."""
    _check(experiment)
    if isinstance(out, ObjectPath):
        raise UserError(f"{out}: in an object store one command runs all of a stream; leave out --role")
    if role == "batch":
        with open_run(experiment, data, out) as folder:
            return batch_stage(folder, experiment, data)
    folder = RunFolder(out or Path("runs") / experiment.name)
    folder.belongs(experiment, str(data.resolve()) if data else "")
    run_role(folder, experiment, data, role)


def run_by_ranks(experiment: Experiment, data: Path | None, out: Location | None, role: str | None) -> None:
    """Run one model of a stream as one of several ranks; UserError for any other role, and in an object store."""
    _check(experiment)
    if isinstance(out, ObjectPath):
        raise UserError(f"{out}: ranks share a folder; in an object store one command runs all of a stream")
    if role not in (models := jobs_by_name(experiment)):
        raise UserError(f"--role {role}: ranks run one model of a stream; name one of {', '.join(models)}")
    folder = RunFolder(out or Path("runs") / experiment.name)
    folder.belongs(experiment, str(data.resolve()) if data else "")
    torch.set_num_threads(1)
    if models[role].uses_teacher:
        await_teacher(folder, lambda: None)  # which may take longer than a rank waits for the others
    with joined() as ranks:
        run_ranked(folder, experiment, models[role], ranks)


def _check(experiment: Experiment) -> None:
    """Raise UserError for what a batch run supports and a stream does not."""
    if lacks := experiment.data.lacks:
        raise UserError(f"{lacks}: a stream needs users and times; use recdistill run")
    if experiment.controls or experiment.evaluate.teacher_seeds > 1:
        raise UserError("controls, teacher_seeds: a stream has one teacher and its pairs; use recdistill run")
    for name, teacher in {TEACHER: experiment.teacher, **experiment.teachers}.items():
        if not teacher.stale.fresh:
            raise UserError(f"{name}.stale: a stream's teachers predict with their newest weights; use recdistill run")
        if teacher.pretrain:
            raise UserError(f"{name}.pretrain: a stream does not stop to pre-train; use recdistill run")
        if teacher.rate_end < 1:
            _check_batch_phase(experiment, f"{name}.rate_end")
    for name, student in experiment.students.items():
        if student.pretrain:
            raise UserError(f"students.{name}.pretrain: a stream does not stop to pre-train; use recdistill run")
        if student.pruned_from:
            raise UserError(f"students.{name}.pruned_from: a stream trains each student by itself; use recdistill run")
        if student.domain:
            raise UserError(f"students.{name}.domain: a stream's students learn from every sample; use recdistill run")
        in_batch = {
            "distill.warm_start": student.distill.warm_start,
            "start_from": student.start_from,
            "rate_end": student.rate_end < 1,
            "prune": student.prune is not None and student.prune.versions is None,
        }
        for key in [key for key, asked in in_batch.items() if asked]:
            _check_batch_phase(experiment, f"students.{name}.{key}")
        for key, only in SUPPORTED.items():
            if getattr(student.distill, key) != only:
                raise UserError(f"students.{name}.distill.{key}: a stream supports only {only}; use recdistill run")


def _check_batch_phase(experiment: Experiment, key: str) -> None:
    if not experiment.stream.batch_rows:
        raise UserError(f"{key}: happens in the batch phase, and stream.batch_rows is 0; raise it")


def batch_stage(folder: RunFolder, experiment: Experiment, data: Path | None) -> None:
    """Fill the tables with the first rows, hand over to the stream, train every model on them; what is done
    stays done.
    """
    rows = experiment.stream.batch_rows
    with console.status("reading the log"):
        ingest(folder, experiment, data, lambda done: None, print_line, rows)
    handed = hand_over(folder)
    events, behaviors = open_tables(folder)
    PredictionLog.create(folder.predictions, events.schema.tasks, channels_of(experiment, events.schema.tasks))
    VerdictLog.create(folder.verdicts)
    if events.schema.label_times and experiment.labels.window_s is None:
        console.print(NO_WINDOW, soft_wrap=True)
    if rows:
        with console.status("building the store"):
            store = build_store(folder.store, events, behaviors, handed.pinned, LabelClock.of(experiment.labels))
        for line in missing_vectors(store.vectors, store.vector_index, store.row_vectors, events.schema):
            print_line(line)
        print_data(data_of(folder, handed.versions["events"]))
        console.print(f"labels: {lag_sentence(label_lag(folder.store))}", soft_wrap=True)
        train_stage(folder, experiment)


def roles_of(folder: RunFolder, experiment: Experiment) -> tuple[list[str], list[str]]:
    """Return (roles that come to an end with the source, roles that do not)."""
    publish = ["publish"] if experiment.stream.replay else []
    return [*publish, *readers_of(experiment), "gate", *jobs_by_name(experiment)], ["compact"]


def run_role(folder: RunFolder, experiment: Experiment, data: Path | None, role: str) -> None:
    """Run one process of the stream, here; UserError for a role that there is not."""
    roles, helpers = roles_of(folder, experiment)
    if role not in (*roles, *helpers):
        raise UserError(f"--role {role}: no such role{did_you_mean(role, [*roles, *helpers])}")
    journal = Journal(folder.logs, role)
    if role == "publish":
        run_publish(folder, experiment, data, journal)
    elif role in (readers := readers_of(experiment)):
        run_ingest(folder, experiment, journal, readers.index(role))
    elif role == "gate":
        run_gate(folder, experiment, journal)
    elif role == "compact":
        run_compact(folder, experiment, journal)
    else:
        torch.set_num_threads(1)  # models run side by side
        run_model(folder, experiment, jobs_by_name(experiment)[role], journal)


def run_child(root: Location) -> None:
    """Fork the processes that `run_stream` asks for, and in each of them run its role; they end with `run_stream`."""
    role = await_role()
    if role is not None:
        folder = RunFolder(root)
        run_role(folder, folder.experiment(), folder.data(), role)


def _own_broker(source: SourceConfig) -> bool:
    return source.kind == "nats" and source.url is None


def _run_all(folder: RunFolder, experiment: Experiment, processes: Prefork) -> None:
    """Run every role, and a broker of the run's own where the experiment names none."""
    roles, helpers = roles_of(folder, experiment)
    source, journal = experiment.stream.source, Journal(folder.logs, "stream")
    with local_nats(folder.here) if _own_broker(source) else nullcontext():
        if "publish" in roles:
            _open_channel(folder, experiment, journal)
        _supervise(folder, processes, roles, helpers, journal)


def _open_channel(folder: RunFolder, experiment: Experiment, journal: Journal) -> None:
    """Make the stream, topics or tables that the replay publishes into, so that ingest finds them whoever is first."""
    source = experiment.stream.source
    with open_source(
        experiment.stream, server_url(folder.local, source), source_tables(folder.root, source), journal
    ) as channel:
        channel.create(
            replace(EventLog.open(folder.tables / "events").schema, edges={}, scales={})
        )  # those are of one run


def _supervise(folder: RunFolder, processes: Prefork, roles: list[str], helpers: list[str], journal: Journal) -> None:
    last_shown = time.monotonic()
    for _ in supervise(processes, roles, helpers, journal):
        if time.monotonic() - last_shown > STATUS_EVERY:
            last_shown = time.monotonic()
            with suppress(UserError, OSError):  # a status line must end nothing: a commit was cut, a disk full
                console.print(_status(folder), soft_wrap=True)


def _status(folder: RunFolder) -> str:
    """Return one line: how far ingest and each model are."""
    events, predictions = EventLog.open(folder.tables / "events"), PredictionLog.open(folder.predictions)
    rows = sum(progress.rows for progress in ingests(events).values())
    far: dict[str, int] = {}
    for commit in islice(commits_back(predictions.path, predictions.version), 200):
        progress = read_progress(ModelProgress, commit.metadata)
        if progress:
            far.setdefault(commit.metadata["model"], progress.rows)
    models = "  ".join(f"{name} {rows:,}" for name, rows in sorted(far.items()))
    return f"streamed: {rows:,} rows  {models}"


def score_stage(folder: RunFolder, experiment: Experiment) -> None:
    """Score the streaming phase from the tables: summary.json, report.html, model-card.md, the verdict."""
    events = EventLog.open(folder.tables / "events")
    handed = handed_over(events)
    first = handed.rows if handed else 0
    window = experiment.evaluate.model_copy(update={"start": first / max(events.rows(), 1)})
    with console.status("scoring"):
        summary = score(
            experiment.name, folder.tables, *_facts(folder, experiment), window, None, workers_of(experiment)
        )
        summary = with_shadows(folder, experiment, summary)
    write_summary(summary, folder.root / "summary.json")
    print_summary(summary)
    publish_results(folder, summary, lambda line: console.print(line, soft_wrap=True))


def _facts(folder: RunFolder, experiment: Experiment) -> tuple[list[ModelFacts], dict[str, StudentModels]]:
    """Return what is scored; UserError for a model that has streamed nothing yet."""
    teacher, students = jobs_of(experiment)
    return model_facts(experiment, {job.name: _costs(folder, job) for job in (teacher, *students)})


def _costs(folder: RunFolder, job: Job) -> TrainingCosts:
    latest = stream_checkpoints(folder, job.name).latest()
    if latest is None:
        raise UserError(f"{folder.root}: {job.name} has streamed nothing yet; run: recdistill stream CONFIG")
    sums = latest[1].state["sums"]
    dense, sparse = build.parameters(latest[1].tensors)
    speed = sums.get("learned", 0.0) / max(sums.get("seconds", 0.0), 1e-9)
    coverage = sums.get("signals", 0.0) / max(sums.get("learned", 0.0), 1.0)
    rows, seconds = int(sums.get("learned", 0.0)), sums.get("seconds", 0.0)
    return TrainingCosts(dense, sparse, speed, coverage, rows, seconds=seconds)
