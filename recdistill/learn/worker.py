"""Training jobs: which models a run needs, how one is built, and how several are trained at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recdistill.config import Experiment, StudentConfig
from recdistill.data import BatchBuilder, SampleStore
from recdistill.data.candidates import Candidates
from recdistill.data.domain import rows_of_domain
from recdistill.data.encoder import field_counts
from recdistill.data.sampling import rates_per_task
from recdistill.data.slices import Slicer
from recdistill.distill import Compressor, KeepRates
from recdistill.errors import RecdistillError, UserError
from recdistill.learn.checkpoint import Checkpoints
from recdistill.learn.crossfit import FoldTrainer, crossfit_rows, folds_of
from recdistill.learn.folder import RunFolder, locked
from recdistill.learn.heard import heard
from recdistill.learn.jobs import TEACHER, Job
from recdistill.learn.learner import Learner, fixed_weight
from recdistill.learn.loop import Progress, Totals, Trainer
from recdistill.learn.plan import Plan
from recdistill.learn.pretrain import able
from recdistill.learn.sizes import backbone_of, check_device, check_fits, named_models, unallocated
from recdistill.models import Towers, dense_parameters
from recdistill.models.device import device_of, place
from recdistill.models.ranks import ALONE, Dense, InFull, Ranks, Rows
from recdistill.models.sharded import spread_tables
from recdistill.tables import EventLog, EventSchema, PredictionLog

__all__ = [
    "adapter_rows",
    "check_models",
    "check_names",
    "crew",
    "facts_of",
    "finished",
    "learned_rates",
    "learner_of",
    "parameters",
    "train_ranked",
    "trainer_of",
]

Array = np.ndarray[Any, np.dtype[Any]]


def check_models(experiment: Experiment, trains: bool = True) -> None:
    """Raise UserError for a model that cannot be built as the experiment says; no weight is allocated.

    trains: whether they are about to be trained here; then also for one that this machine's memory does not hold.
    """
    for name, config in named_models(experiment).items():
        backbone = unallocated(name, config)
        if config.pretrain and not able(backbone):
            raise UserError(f"{name}.pretrain: is for kinds hstu, without transducers, and transformer")
        if (
            trains and check_device(name, config).type == "cpu"
        ):  # asking a GPU takes a piece of it: who trains there asks
            check_fits(name, dense_parameters(backbone))


def check_names(folder: RunFolder, experiment: Experiment) -> None:
    """Raise UserError for a feature, a value or a task that the experiment names and an ingested log does not have."""
    schema, store = EventLog.open(folder.tables / "events").schema, SampleStore(folder.store)
    Candidates.of(experiment.candidates, schema)
    for student in experiment.students.values():
        Slicer.of(student.distill.gate.by, schema)
        rows_of_domain(store, schema, student.domain)
        fixed_weight(student.distill.weight, schema.tasks)


def build_network(job: Job, schema: EventSchema, actions: int, states: int) -> Towers:
    """Return the job's network; raw and distilled of one seed start from equal weights. states: width of
    the teacher's, if any.
    """
    torch.manual_seed(job.seed)
    backbone = backbone_of(job.config, job.seed, *field_counts(schema), actions)
    two = job.distill is not None and job.distill.towers != "single"
    adapted = job.hears and job.distill is not None and job.distill.adapter is not None
    read = states if job.hears and job.distill is not None and job.distill.states else 0
    return Towers(backbone, len(schema.tasks), layout="decoupled" if two else "single", adapted=adapted, states=read)


def learner_of(
    folder: RunFolder,
    job: Job,
    labels: Array,
    actions: int,
    teacher: Sequence[KeepRates] | None,
    states: int = 0,
    ranks: Ranks = ALONE,
    sharded: bool = False,
) -> tuple[Learner, dict[str, str]]:
    """Return a job's new learner, and what its commits say of it: its configuration's hash and the keep rates it learns
    under.

    labels: [N, K], of the log so far, to tell what sampling by the first task does to the others. teacher: the keep
    rates per task that are in what it hears, None for one that hears nobody. states: width of the states that its
    teacher writes.
    """
    schema = EventLog.open(folder.tables / "events").schema
    learned = learned_rates(schema, labels, job)
    own = [KeepRates(*learned[task]) for task in schema.tasks]
    slicer = Slicer.of(job.distill.gate.by if job.distill else None, schema)
    device = device_of(job.config.device)
    dense = _sharded(ranks, device) if sharded else InFull(ranks)

    def make() -> Towers:
        network = build_network(job, schema, actions, states)
        spread_tables(network, ranks)
        if device.type == "cuda" and not sharded:
            check_fits(job.name, dense_parameters(network), device)
        place(network, device)
        return network

    learner = Learner(dense.built(make), job.config, job.distill, own, teacher or own, schema.tasks, slicer, dense)
    return learner, {"config": job.run, "keep_rates": json.dumps(learned)}


def _sharded(ranks: Ranks, device: torch.device) -> Dense:
    from recdistill.models.dense_shards import Sharded  # which takes a third of a second to import

    return Sharded(ranks, device)


def learned_rates(schema: EventSchema, labels: Array, job: Job) -> dict[str, tuple[float, float]]:
    """Return (k+, k-) per task under which a job learns from a log of `labels` [N, K]: the log's own times
    the job's.
    """
    rates = zip(schema.tasks, rates_per_task(labels, job.config.sampling), strict=True)
    both = {task: KeepRates(*schema.keep_rates.get(task, (1.0, 1.0))) * KeepRates(*of_task) for task, of_task in rates}
    return {task: (kept.positive, kept.negative) for task, kept in both.items()}


def trainer_of(
    folder: RunFolder, experiment: Experiment, job: Job, ranks: Ranks = ALONE, sharded: bool = False
) -> Trainer | FoldTrainer:
    """Return the trainer of a job over the run's store, its signals joined.

    ranks: the processes that train it; sharded: whether each keeps but a share of the dense part.
    """
    store, predictions = SampleStore(folder.store), PredictionLog.open(folder.predictions)
    early, schema = crossfit_rows(folder, experiment, len(store)), EventLog.open(folder.tables / "events").schema
    told = heard(folder, experiment, job)
    learner, metadata = learner_of(
        folder, job, store.labels, store.actions, told.rates, experiment.states.width, ranks, sharded
    )
    if job.name == TEACHER and experiment.states.width:
        states = experiment.states
        learner.compressor = Compressor(
            learner.network.output_width, states.width, states.bits, states.rate, states.learn_rows
        )
    checkpoints = Checkpoints(folder.model(job.name), ranks=ranks)
    if job.fold is not None:
        return FoldTrainer(
            job.fold,
            folds_of(store, early, experiment.crossfit),
            learner,
            store,
            BatchBuilder(store, job.config.history),
            _plan(job, early),
            predictions,
            checkpoints,
            job.writer,
            {**metadata, "folds": experiment.crossfit.model_dump_json()},
        )
    only = rows_of_domain(store, schema, job.config.domain) if isinstance(job.config, StudentConfig) else None
    asked = (
        Candidates.of(experiment.candidates, schema) if experiment.candidates.count and job.distill is None else None
    )
    plan = _plan(job, len(store), store.time)
    if job.config.pretrain and not plan.block_at(job.config.pretrain.at):
        raise UserError(
            f"{job.name}: pretrain.at {job.config.pretrain.at:g} of {len(store):,} samples ends before the first "
            f"checkpoint; lower checkpoint_rows, which is {job.block_rows:,}"
        )
    return Trainer(
        job.name,
        job.run,
        learner,
        store,
        BatchBuilder(store, job.config.history, told.signals, told.beside, told.past),
        plan,
        predictions,
        checkpoints,
        metadata,
        asked,
        only,
        job.config.pretrain,
        ranks,
    )


def _plan(job: Job, rows: int, times: Array | None = None) -> Plan:
    return Plan.of(job.config, rows, job.block_rows, job.seed, times)


def finished(folder: RunFolder, job: Job, rows: int, ranks: Ranks = ALONE) -> bool:
    """Return whether the job's last block has its checkpoint, undamaged; of several ranks, which share the
    reading, all ask together.
    """
    return Checkpoints(folder.model(job.name), ranks=ranks).newest() == _plan(job, rows).blocks - 1


def parameters(tensors: Mapping[str, Rows]) -> tuple[int, int]:
    """Return (dense parameters, embedding parameters that learned) of a checkpoint's tensors, of which none is read."""
    dense = sum(value.shape.numel() for name, value in tensors.items() if name.startswith("network/"))
    sparse = sum(
        value.shape.numel() for name, value in tensors.items() if name.startswith("table/") and name.endswith("/weight")
    )
    return dense, sparse


def facts_of(folder: RunFolder, job: Job) -> tuple[int, int, float, float]:
    """Return (dense parameters, embedding parameters, rows/s, coverage) of a trained job from its checkpoint."""
    checkpoints = Checkpoints(folder.model(job.name))
    block = checkpoints.newest()
    if block is None:
        raise UserError(f"{job.name}: not trained yet")
    totals = Totals(**checkpoints.state(block)["totals"])
    return (
        *parameters(checkpoints.stored(block)),
        totals.rows / max(totals.seconds, 1e-9),
        totals.signals / max(totals.rows, 1),
    )


def adapter_rows(folder: RunFolder, job: Job) -> int | None:
    """Return how many samples a trained student's adapter learned from, None for a model without one."""
    if job.distill is None or job.distill.adapter is None or not job.hears:
        return None
    checkpoints = Checkpoints(folder.model(job.name))
    block = checkpoints.newest()
    return None if block is None else int(checkpoints.state(block)["learner"]["adapter"]["rows"])


def train_ranked(
    folder: RunFolder, experiment: Experiment, job: Job, ranks: Ranks, sharded: bool
) -> Iterator[Progress]:
    """Train a job as one of several ranks, each in a process of its own that calls this.

    sharded: whether each keeps but a share of the dense part.

    Raises UserError for what ranks cannot share.
    """
    for what, there in (
        ("a model that hears a teacher", job.hears),
        ("pretrain", job.config.pretrain is not None),
        ("a fold", job.fold is not None),
        ("states", bool(experiment.states.width)),
        ("activation dice", job.config.options.get("activation") == "dice"),
    ):
        if there:
            raise UserError(f"{job.name}: {what} is trained in one process; run recdistill train without torchrun")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    with (
        locked(folder.model(job.name) / "lock", f"{folder.model(job.name)}: another process still trains this model")
        if ranks.first
        else nullcontext()
    ):
        if ranks.first:
            Checkpoints(folder.model(job.name)).clear()
        yield from trainer_of(folder, experiment, job, ranks, sharded).run_to_end()


_reports: Any = None  # in a training process, its queue to the parent: queues can only be given when a process starts


def _prepare(reports: Any, alive: Connection) -> None:
    """Set up a training process; it ends with the process that holds the other end of `alive`, however that ends."""
    global _reports
    _reports = reports
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    torch.set_num_threads(1)  # models side by side use the cores better, and threads that wait for a busy core stall


def _end_with(alive: Connection) -> None:
    alive.poll(None)  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)


def _train(root: Path, experiment: Experiment, job: Job) -> None:
    folder = RunFolder(root)
    with locked(folder.model(job.name) / "lock", f"{folder.model(job.name)}: another process still trains this model"):
        for progress in trainer_of(folder, experiment, job).run_to_end():
            _reports.put((job.name, progress))


@contextmanager
def crew(folder: RunFolder, experiment: Experiment) -> Iterator[Callable[[list[Job]], Iterator[tuple[str, Progress]]]]:
    """Give a function that trains jobs and yields (model, progress): `experiment.processes` at a time, a thread each.

    The processes stay from one call to the next, for starting one takes seconds. The first failure is raised from the
    generator; leaving the block, for whatever reason, ends the jobs still running where they are: what was committed
    stays, and a run may be stopped anywhere. RecdistillError when the system killed a process.
    """
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    alive, ours = context.Pipe(duplex=False)

    def train(jobs: list[Job]) -> Iterator[tuple[str, Progress]]:
        with _without_interrupts():
            running = [pool.submit(_train, folder.root, experiment, job) for job in jobs]
        return _until_done(running, reports)

    try:
        with ProcessPoolExecutor(experiment.processes, context, _prepare, (reports, alive)) as pool:
            try:
                yield train
            finally:
                ours.close()
    except BrokenProcessPool:
        raise RecdistillError(
            f"{folder.root}: a training process was killed (out of memory?); run the same command "
            "again to resume, with --set processes=1 if memory is short"
        ) from None
    finally:
        for part in folder.root.glob("models/*/*.part"):  # checkpoints of jobs that were ended while they wrote
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C, and let processes started meanwhile ignore it for good: it reaches them too, but we answer it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _until_done(running: list[Future[None]], reports: Any) -> Iterator[tuple[str, Progress]]:
    pending = set(running)
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        while not reports.empty():
            yield reports.get()
        for future in done:
            future.result()
