"""The stages behind the command line, in order: ingest, train, evaluate, report. Each does only what is not
done yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import resources
from pathlib import Path

import numpy as np
from rich.table import Table

from recdistill.app.baselines import baselines_of
from recdistill.app.bounded_rows import bounded_lines
from recdistill.app.data_summary import data_of, print_data, with_data
from recdistill.app.export_check import unservable
from recdistill.app.leaks import leaks_of, print_leaks, with_leaks
from recdistill.app.model_facts import model_facts
from recdistill.app.progress import console, shown
from recdistill.app.progress import print_line as _print
from recdistill.app.results import publish_results
from recdistill.app.scores import print_summary
from recdistill.app.shadow import with_shadows
from recdistill.config.experiment import Experiment, named_models
from recdistill.config.load import load_text
from recdistill.data.store.frozen_vectors import missing_vectors
from recdistill.data.store.label_order import LabelClock
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.distill.adapter import MIN_ROWS
from recdistill.distributed.launch import joined
from recdistill.errors import UserError, did_you_mean
from recdistill.evaluate.label_lag import label_lag, lag_sentence
from recdistill.evaluate.model_facts import ModelFacts, StudentModels
from recdistill.evaluate.score import score
from recdistill.evaluate.summary import Summary, write_summary
from recdistill.evaluate.summary import load as load_summary
from recdistill.runs.batch_ingest import handed_over, ingest, open_tables, workers_of
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import (
    Job,
    awaited,
    enlarged_by_name,
    every_job,
    folds_of_teacher,
    jobs_of,
    teacher_names,
    teacher_seeds_of,
    teachers_of,
    without_compute,
)
from recdistill.runs.names import TEACHER
from recdistill.signals.columns import channels_of
from recdistill.signals.folds import crossfit_rows
from recdistill.signals.import_file import import_predictions, imported
from recdistill.signals.teacher_signals import teacher_signals
from recdistill.storage.location import Location, local_path
from recdistill.tables.predictions import PredictionLog
from recdistill.tracking.session import check_trackers
from recdistill.train import build, pool
from recdistill.train.memory_check import check_actions, check_device
from recdistill.train.start_from import pin_starts
from recdistill.train.width_schedule import check_schedules
from recdistill.typing import Array

__all__ = [
    "demo_config",
    "evaluate_stage",
    "import_stage",
    "ingest_stage",
    "inspect_stage",
    "open_run",
    "ranked_stage",
    "report_stage",
    "run_pipeline",
    "run_stages",
    "run_store",
    "train_alone",
    "train_stage",
]


def demo_config(assignments: list[str]) -> Experiment:
    """Return the built-in simulated experiment."""
    text = resources.files("recdistill.app").joinpath("demo.yaml").read_text(encoding="utf-8")
    return load_text(text, assignments, "demo")


@contextmanager
def open_run(
    experiment: Experiment, data: Path | None, out: Location | None, trains: bool = True, grows: bool = False
) -> Iterator[RunFolder]:
    """Claim the run's folder (default runs/NAME) for the experiment and this process; see `RunFolder.claimed`.

    grows: see `RunFolder.claimed`. A model that cannot be built is refused before anything is written, and where the
    process trains also one that does not fit.
    """
    build.check_models(experiment, trains)
    check_trackers(experiment.tracking)
    folder = RunFolder(out or Path("runs") / experiment.name)
    if experiment.tracking:
        local_path(folder.root)
    with folder.claimed(experiment, str(data.resolve()) if data else "", grows):
        yield folder


def run_pipeline(experiment: Experiment, data: Path | None, out: Path | None) -> None:
    """Run every stage; the folder afterwards holds summary.json and report.html."""
    with open_run(experiment, data, out) as folder:
        print_summary(run_stages(folder, experiment, data))
        report_stage(folder)


def run_stages(folder: RunFolder, experiment: Experiment, data: Path | None) -> Summary:
    """Run every stage up to the scores in a claimed folder; return them."""
    ingest_stage(folder, experiment, data)
    train_stage(folder, experiment)
    return evaluate_stage(folder, experiment)


def ingest_stage(folder: RunFolder, experiment: Experiment, data: Path | None, follows: bool = True) -> None:
    """Fill the tables from the log, and derive the store from them. follows: whether what was learned may be dropped
    for rows that the log has grown by.
    """
    start = time.perf_counter()
    with console.status("reading the log") as status:
        rows = ingest(
            folder,
            experiment,
            data,
            lambda done: status.update(f"reading the log: {done:,} rows"),
            _print,
            follows=follows,
        )
    _print(
        f"log: {rows:,} rows in {time.perf_counter() - start:.1f} s -> {folder.tables}"
        if rows
        else f"log: nothing to do, already read -> {folder.tables}"
    )
    start = time.perf_counter()
    events, behaviors = open_tables(folder)
    with console.status("building the store"):
        clock = LabelClock.of(experiment.labels)
        store = build_store(folder.store, events, behaviors, clock=clock, workers=workers_of(experiment))
    _print(
        f"store: {len(store):,} samples{_span(store) if events.schema.has_time else ''}, {store.users - 1:,} users, "
        f"{store.items - 1:,} items, {len(store.histories.item):,} history events ({time.perf_counter() - start:.1f} "
        "s)"
    )
    for line in missing_vectors(store.vectors, store.vector_index, store.row_vectors, events.schema):
        _print(line)
    _print(f"labels: {lag_sentence(label_lag(folder.store))}")
    PredictionLog.create(folder.predictions, tuple(store.tasks), channels_of(experiment, store.tasks))
    print_data(data_of(folder))
    print_leaks(leaks_of(folder, experiment))


def _span(store: SampleStore) -> str:
    return f" from {_day(store, 0)} to {_day(store, -1)}"


def _day(store: SampleStore, at: int) -> str:
    return str(np.datetime64(int(store.time[at]), "us").astype("datetime64[D]"))


def run_store(folder: RunFolder) -> SampleStore:
    """Return the run's store; UserError when the log was not read to the end. Of a run in an object store it is built
    anew where this machine does not have it.
    """
    if not isinstance(folder.root, Path) and folder.ingested:
        events, behaviors = open_tables(folder)
        handed = handed_over(events)  # what came after it is the stream's
        clock = LabelClock.of(folder.experiment().labels)
        return build_store(folder.store, events, behaviors, handed.pinned if handed else None, clock)
    if not (folder.store / "store.json").exists() or not folder.predictions.exists():
        raise UserError(f"{folder.root}: nothing ingested yet; run: recdistill ingest CONFIG --out {folder.root}")
    return SampleStore(folder.store)


def train_stage(folder: RunFolder, experiment: Experiment, only: Sequence[str] = ()) -> None:
    """Train what is not finished, each once its teachers are: teachers and raw students first."""
    rows = len(run_store(folder))
    _check(folder, experiment)
    teacher, students = jobs_of(experiment)
    for name in without_compute(experiment):
        _print(f"{name}: no control compute: its raw student learns as many rows as the distilled one")
    folds, part = folds_of_teacher(experiment), crossfit_rows(folder, experiment, rows)
    larger = enlarged_by_name(experiment)
    every = [teacher, *teachers_of(experiment), *folds, *students]
    names = [job.name for job in every]
    for name in only:
        if name not in names:
            raise UserError(f"--model {name}: no such model in {folder.root}{did_you_mean(name, names)}")
    given = {TEACHER} if _imported(folder, experiment) else set()
    open_ = {
        job.name: job
        for job in every
        if job.name not in given and not build.finished(folder, job, part if job.fold is not None else rows)
    }
    if not (todo := [job for job in open_.values() if not only or job.name in only]):
        return _print(f"training: nothing to do, {', '.join(only) or 'every model'} is already trained")
    if experiment.export_check:
        for line in unservable(folder, [job for job in todo if job.distill is not None]):
            _print(line)
    with pool.crew(folder, experiment) as train, shown(folder, experiment) as show:
        while todo:
            ready = [job for job in todo if not awaited(experiment, job, folds, larger, open_)]
            if not ready:
                missing = awaited(experiment, todo[0], folds, larger, open_)[0]
                raise UserError(f"{folder.root}: {missing} is not trained yet; run: recdistill train {folder.root}")
            for job in {
                str((job.distill, teacher_names(experiment, job))): job for job in ready if job.uses_teacher
            }.values():
                found = teacher_signals(folder, experiment, job)  # joins the signals once for all
                if job.name not in larger:  # the larger one was warned of it
                    _print_coverage(job, found.signals)
            for name, at in train(ready):
                show(name, at)
            for job in ready:
                _print_adapter(folder, job)
                _print_begun(folder, job)
                del open_[job.name]
            todo = [job for job in todo if job.name in open_]


def _check(folder: RunFolder, experiment: Experiment) -> None:
    """Raise UserError for what the experiment names and the log, or this machine, does not have."""
    named = named_models(experiment)
    for name, config in named.items():
        check_device(name, config)
    build.check_names(folder, experiment)
    pin_starts(folder, experiment)
    store = run_store(folder)
    check_schedules(experiment, len(store), handed_over(open_tables(folder)[0]) is not None)
    check_actions(named, store.actions)


def train_alone(folder: RunFolder, experiment: Experiment, jobs: list[Job]) -> None:
    """Train those of `jobs` that are not finished; none of them may learn from another."""
    rows = len(run_store(folder))
    _check(folder, experiment)
    todo = [job for job in jobs if not build.finished(folder, job, rows)]
    if not todo:
        return _print("training: nothing to do, every model is already trained")
    with pool.crew(folder, experiment) as train, shown(folder, experiment) as show:
        for name, at in train(todo):
            show(name, at)


def ranked_stage(root: Path, model: str | None, sharded: bool, short: bool, tensor: int) -> None:
    """Train one model of an ingested run as one of several ranks; the first of them shows how far it is.

    sharded: whether each keeps but a share of the dense part; short: whether messages are; tensor: see `Ranks`.
    """
    if tensor > 1 and not sharded:
        raise UserError(f"--tensor {tensor}: goes with --shard; add it")
    folder = RunFolder(root)
    experiment = folder.experiment()
    rows, every = len(run_store(folder)), every_job(experiment)
    if model not in every:
        raise UserError(f"--model {model}: ranks train one model of {folder.root}; name one of {', '.join(every)}")
    if every[model].fold is not None:
        rows = crossfit_rows(folder, experiment, rows)
    with (
        joined(short, tensor) as ranks,
        folder.held() if ranks.first else nullcontext(),
        shown(folder, experiment) as show,
    ):
        ranks.wait()  # nobody looks before the first one holds the folder
        if build.finished(folder, every[model], rows, ranks):
            return _print(f"training: nothing to do, {model} is already trained") if ranks.first else None
        for at in pool.train_ranked(folder, experiment, every[model], ranks, sharded):
            if ranks.first:
                show(model, at)


def _print_coverage(job: Job, signals: Array | None) -> None:
    """Print for how many samples a student has no signal, if there are any: of these it learns the labels alone."""
    missing = 0 if signals is None else int(np.isnan(signals).all(1).sum())
    if signals is not None and missing:
        _print(
            f"warning: {job.name.partition('.distilled')[0]}: no signal for {missing:,} of {len(signals):,} samples; "
            "of these it learns the labels alone"
        )


def _print_adapter(folder: RunFolder, job: Job) -> None:
    """Print that a student adapter was never used: too few of its samples had both a label and a signal."""
    rows = build.adapter_rows(folder, job)
    if rows is not None and rows < MIN_ROWS:
        _print(
            f"warning: {job.name}: its adapter saw {rows:,} samples with both a label and a signal, and gives no "
            f"target before {MIN_ROWS:,}; what it was to add is missing"
        )


def _print_begun(folder: RunFolder, job: Job) -> None:
    """Print how many rows a model took over from another one."""
    if began := build.began(folder, job):
        ids = f"; {began['left']:,} rows of ids that are not here stayed behind, {began['new']:,} ids are new"
        _print(f"{job.name}: began from {began['rows']:,} embedding rows{ids if began['left'] or began['new'] else ''}")


def _imported(folder: RunFolder, experiment: Experiment) -> str | None:
    """Return the file that the teacher was imported from; UserError where students ask for more than such a
    file holds.
    """
    file = imported(PredictionLog.open(folder.predictions))
    for name, student in experiment.students.items():
        for channel in ("candidates", "teacher_hidden"):
            if file and getattr(student.distill, channel):
                raise UserError(
                    f"{folder.root}: a teacher imported from a file has no {channel}; set "
                    f"students.{name}.distill.{channel} to 0"
                )
        if file and student.distill.warm_start and student.distill.teachers == [TEACHER]:
            raise UserError(
                f"{folder.root}: a teacher imported from a file has no rows to begin from; leave out "
                f"students.{name}.distill.warm_start"
            )
    return file


def evaluate_stage(folder: RunFolder, experiment: Experiment) -> Summary:
    """Score every model from the tables, write summary.json and return it."""
    if not experiment.students:
        raise UserError(f"{folder.root}: has no student to score yet; train one")
    with console.status("scoring"):
        floor = baselines_of(folder, experiment)
        summary = score(
            experiment.name,
            folder.tables,
            *_facts(folder, experiment),
            experiment.evaluate,
            floor,
            workers_of(experiment),
        )
    summary = summary.model_copy(update={"label_lag": label_lag(folder.store)})
    summary = with_data(with_leaks(summary, leaks_of(folder, experiment)), data_of(folder))
    summary = with_shadows(folder, experiment, summary)
    write_summary(summary, folder.root / "summary.json")
    return summary


def _facts(folder: RunFolder, experiment: Experiment) -> tuple[list[ModelFacts], dict[str, StudentModels]]:
    """Return what is scored; UserError for a model that is not trained to the end."""
    store = run_store(folder)
    _, students = jobs_of(experiment)
    file = imported(PredictionLog.open(folder.predictions))
    trained = students if file else [*teacher_seeds_of(experiment), *students]
    for job in trained:
        if not build.finished(folder, job, len(store)):
            raise UserError(f"{folder.root}: {job.name} is not trained to the end; run: recdistill train {folder.root}")
    return model_facts(experiment, {job.name: build.training_costs(folder, experiment, job) for job in trained}, file)


def import_stage(folder: RunFolder, experiment: Experiment, path: Path) -> None:
    """Take a file as the predictions of the run's teacher."""
    run_store(folder)
    with console.status("importing predictions"):
        found = import_predictions(folder, experiment, path)
    left = f"; {found.unknown:,} left out, whose ids the log does not have" if found.unknown else ""
    _print(f"teacher: {found.rows:,} predictions from {path}, coverage {found.coverage:.1%}{left}")


def report_stage(folder: RunFolder) -> None:
    """Write report.html and model-card.md."""
    path = folder.root / "summary.json"
    if not path.exists():
        raise UserError(f"{folder.root}: not scored yet; run: recdistill evaluate {folder.root}")
    publish_results(folder, load_summary(path), _print)


def inspect_stage(folder: RunFolder) -> None:
    """Print the tables with their versions and the models with what they recorded."""
    if not folder.ingested:
        raise UserError(f"{folder.root}: nothing ingested yet; run: recdistill ingest CONFIG --out {folder.root}")
    events, behaviors = open_tables(folder)
    table = Table("table", "version", "rows")
    for name, log in (("events", events), ("behaviors", behaviors)):
        if log is not None:
            table.add_row(name, str(log.version), f"{log.rows():,}")
    console.print(table)
    total = events.rows()
    models = Table("model", "version", "kind", "rows", "of the log")
    for model, version, kind, rows in (
        PredictionLog.open(folder.predictions).models() if folder.predictions.exists() else ()
    ):
        models.add_row(model, str(version), kind, f"{rows:,}", f"{rows / total:.0%}")
    console.print(models)
    for line in bounded_lines(folder):
        _print(line)
