"""Several models trained at a time, each in a process of its own; one model trained by several ranks."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.connection import Connection
from typing import Any

import torch

from recdistill.checkpoint.store import Checkpoints
from recdistill.compress.plan import changes_width
from recdistill.config.experiment import Experiment, named_models
from recdistill.config.models import StudentConfig
from recdistill.distributed.ranks import Ranks
from recdistill.errors import RecdistillError, UserError
from recdistill.locks import locked
from recdistill.models.layers.device import one_thread
from recdistill.models.user_models import importable
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.signals.teacher_signals import teacher_signals
from recdistill.storage.location import Location
from recdistill.train.build import trainer_of
from recdistill.train.memory_check import check_tokens
from recdistill.train.start_from import pin_starts
from recdistill.train.trainer import Progress
from recdistill.workers.spawn import adopt, end_with, start_context, without_interrupts, without_main

__all__ = ["check_sharded", "crew", "train_ranked"]


def train_ranked(
    folder: RunFolder, experiment: Experiment, job: Job, ranks: Ranks, sharded: bool
) -> Iterator[Progress]:
    """Train a job as one of several ranks, each in a process of its own that calls this.

    sharded: whether each keeps but a share of the dense part.

    Raises UserError for what ranks cannot share.
    """
    if isinstance(job.config, StudentConfig) and job.config.pruned_from is not None:
        raise UserError(f"{job.name}: pruned_from is for one process; train it with recdistill train")
    if sharded:
        check_sharded(job, ranks.tensor)
    if ranks.tensor > 1:
        check_tokens(job.name, job.config, ranks.tensor)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    with _alone(folder, job) if ranks.first else nullcontext():
        if ranks.first:
            Checkpoints(folder.model(job.name)).clear()
            pin_starts(folder, experiment)  # by one, before the others read which
            teacher_signals(folder, experiment, job)  # joined by one; the others find them
        ranks.wait()
        yield from trainer_of(folder, experiment, job, ranks, sharded).run_to_end()


def check_sharded(job: Job, tensor: int = 1) -> None:
    """Raise UserError for what ranks cannot share where each keeps but a share of the dense part; tensor: how many of
    them share each layer of a token mixer.
    """
    prune = job.config.prune if isinstance(job.config, StudentConfig) else None
    if prune is not None and prune.of == "labels":
        raise UserError(f"{job.name}: prune.of: labels does not go with --shard; set of: loss, or leave --shard out")
    if tensor > 1 and changes_width(job.config):
        raise UserError(f"{job.name}: prune and alternate do not go with --tensor; leave one of them out")


def _alone(folder: RunFolder, job: Job) -> AbstractContextManager[None]:
    """Keep other processes out of a model's folder; UserError where one still trains it."""
    place = folder.model(job.name)
    return locked(folder.lock(job.name), f"{place}: another process still trains this model")


_reports: Any = None  # in a training process, its queue to the parent: queues can only be given when a process starts


def _prepare(reports: Any, alive: Connection, environment: dict[str, str]) -> None:
    """Set up a training process; it ends with the process that holds the other end of `alive`, however that ends."""
    global _reports
    _reports = reports
    adopt(environment)
    threading.Thread(target=end_with, args=(alive,), daemon=True).start()
    torch.set_num_threads(1)  # models side by side use the cores better, and threads that wait for a busy core stall


def _train(root: Location, experiment: Experiment, job: Job) -> None:
    folder = RunFolder(root)
    with _alone(folder, job):
        for progress in trainer_of(folder, experiment, job).run_to_end():
            _reports.put((job.name, progress))


@contextmanager
def crew(folder: RunFolder, experiment: Experiment) -> Iterator[Callable[[list[Job]], Iterator[tuple[str, Progress]]]]:
    """Give a function that trains jobs and yields (model, progress): `experiment.processes` at a time, a thread each.

    The processes stay from one call to the next, for starting one takes seconds. The first failure is raised from the
    generator; leaving the block, for whatever reason, ends the jobs still running where they are: what was committed
    stays, and a run may be stopped anywhere. RecdistillError when the system killed a process.
    """
    if not all(importable(model.kind) for model in named_models(experiment).values()):
        yield lambda jobs: _here(folder, experiment, jobs)
        return
    context = start_context()
    reports = context.SimpleQueue()
    alive, ours = context.Pipe(duplex=False)

    def train(jobs: list[Job]) -> Iterator[tuple[str, Progress]]:
        with without_interrupts(), without_main():
            running = [pool.submit(_train, folder.root, experiment, job) for job in jobs]
        return _until_done(running, reports)

    try:
        with ProcessPoolExecutor(experiment.processes, context, _prepare, (reports, alive, dict(os.environ))) as pool:
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
        for part in folder.local.glob("models/*/*.part"):  # checkpoints of jobs that were ended while they wrote
            shutil.rmtree(part, ignore_errors=True)


def _here(folder: RunFolder, experiment: Experiment, jobs: list[Job]) -> Iterator[tuple[str, Progress]]:
    """Train jobs in this process, one after the other: no other process can import a class of a notebook."""
    with one_thread():
        for job in jobs:
            with _alone(folder, job):
                for progress in trainer_of(folder, experiment, job).run_to_end():
                    yield job.name, progress


def _until_done(running: list[Future[None]], reports: Any) -> Iterator[tuple[str, Progress]]:
    pending = set(running)
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        while not reports.empty():
            yield reports.get()
        for future in done:
            future.result()
