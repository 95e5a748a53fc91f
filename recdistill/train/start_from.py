"""A student begins, before the first sample, as a model of an earlier run: the one in production goes on as a new one,
larger if asked, on the log that came after.

Rows go by id: those of ids that the new log does not have stay behind, ids that the earlier one did not have begin
anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from recdistill.checkpoint.store import Checkpoints
from recdistill.compress.inherit import check_inheritance
from recdistill.config.experiment import Experiment
from recdistill.config.models import ModelConfig, StudentConfig
from recdistill.data.store.memmap import read_json, write_json
from recdistill.data.store.sample_store import SampleStore
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.errors import UserError
from recdistill.models.factory import table_modules
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, jobs_by_name
from recdistill.tables.events import EventLog
from recdistill.train.donor import Donor, check_donor
from recdistill.train.learner import Learner
from recdistill.train.memory_check import unallocated
from recdistill.train.schedule import Plan
from recdistill.train.sizes import check_meaning
from recdistill.train.warm_start import Make, Taken, take_network

__all__ = ["VOCABULARY", "Earlier", "StartFrom", "check_start", "pin_starts", "start_from_of"]

PINNED = "starts.json"  # in a run's folder: by `start_from`, the checkpoint that its students begin from

VOCABULARY = {"item": "items", "past": "items", "bias": "items", "user": "users", "context": "context"}  # of a table
ALIKE: tuple[str, ...] = (
    "tasks",
    "features",
    "edges",
    "scales",
    "user_id",
    "item_id",
    "sequences",
    "list_length",
    "regression",
)
ALIKE += (
    "vectors",
    "row_vectors",
    "keep_rates",
    "has_user",
    "has_time",
)  # what of a schema gives weights their meaning


@dataclass(frozen=True)
class Earlier:
    """A model of another run: its checkpoint `block`, and how it was trained."""

    folder: RunFolder
    experiment: Experiment
    job: Job
    checkpoints: Checkpoints
    block: int

    @classmethod
    def at(cls, key: str, path: Path, pinned: int | None = None) -> Earlier:
        """Return the model of RUN/models/NAME, its checkpoint `pinned`, the one that `path` names, or its newest.

        Raises UserError, which begins with `key`, for anything else.
        """
        model, number = (path.parent, int(path.name)) if path.name.isdigit() else (path, None)
        if model.name == "stream":
            raise UserError(f"{key}: {path} is of a stream, whose ids lie elsewhere; name {model.parent}")
        folder, checkpoints = RunFolder(model.parent.parent), Checkpoints(model)
        if not folder.exists or model.parent.name != "models" or not checkpoints.blocks():
            raise UserError(f"{key}: {path}: no trained model; name a folder as RUN/models/light.distilled.s0")
        number = pinned if number is None else number
        block = checkpoints.newest() if number is None else number
        if block is None or block not in checkpoints.blocks():
            raise UserError(f"{key}: {path}: no such checkpoint; there are {', '.join(map(str, checkpoints.blocks()))}")
        experiment = folder.experiment()
        jobs = jobs_by_name(experiment)
        if model.name not in jobs:
            raise UserError(f"{key}: {path}: its run has no model {model.name} that a student can begin from")
        if not (folder.store / "store.json").exists():
            raise UserError(
                f"{key}: {folder.store} is gone, which knows its ids; build it again: recdistill ingest CONFIG --out "
                f"{folder.root}"
            )
        return cls(folder, experiment, jobs[model.name], checkpoints, block)

    @property
    def end(self) -> int:
        """Return the time of the newest sample that it learned from or predicted, us."""
        store = SampleStore(self.folder.store)
        plan = Plan.of(self.job.config, len(store), self.job.block_rows, self.job.seed)
        return int(store.time[plan.span(min(self.block, plan.blocks_per_pass - 1))[1] - 1])


@dataclass(frozen=True)
class StartFrom:
    """donor: the earlier model; ids: see `Donor.load_into`; new: how many ids of the log it had none of."""

    donor: Donor
    ids: dict[str, Tensor]
    new: int
    student: ModelConfig
    make: Make
    seed: int

    def before(self, block: int, learner: Learner) -> Taken | None:
        """Let a learner that learned nothing yet begin; return what was taken over."""
        if block:
            return None
        rows = take_network(learner, self.donor, self.student, self.make, self.seed, self.ids)
        return Taken(rows, 0.0, self.donor.learned - rows, self.new)


def check_start(name: str, config: StudentConfig, student: nn.Module) -> None:
    """Raise UserError, for the student `name`, where what it is to begin from is not there, or cannot become it."""
    key = f"{name}.start_from"
    earlier = Earlier.at(key, Path(config.start_from or ""))
    check_donor(key, str(config.start_from), earlier.job.config)
    old = unallocated(earlier.job.name, earlier.job.config)
    if type(old) is not type(student):
        raise UserError(
            f"{key}: {config.start_from} is a {type(old).__name__}, the student a {type(student).__name__}; take the "
            "same kind"
        )
    for table in table_modules(old):
        if table.name not in VOCABULARY:
            raise UserError(f"{key}: whose ids table {table.name} has is not known; known: {', '.join(VOCABULARY)}")
    try:
        check_inheritance(old, student)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    check_meaning(key, earlier.job.config, config)


def pin_starts(folder: RunFolder, experiment: Experiment) -> None:
    """Write down once, before any student is trained, which checkpoint each `start_from` means: raw and distilled begin
    from the same, and so do those that are resumed, also where the earlier model trains on.
    """
    found = _pinned(folder)
    named = {name: config.start_from for name, config in experiment.students.items() if config.start_from is not None}
    new = {path: name for name, path in named.items() if path not in found}
    if new:
        blocks = {path: Earlier.at(f"{name}.start_from", Path(path)).block for path, name in new.items()}
        write_json(folder.root / PINNED, found | blocks)


def _pinned(folder: RunFolder) -> dict[str, int]:
    path = folder.root / PINNED
    found: dict[str, int] = read_json(path) if path.exists() else {}
    return found


def start_from_of(folder: RunFolder, experiment: Experiment, job: Job, make: Make) -> StartFrom | None:
    """Return how a job of a run begins as a model of an earlier one, None where it does not.

    Raises UserError for a log that does not follow the earlier one's, or gives its columns another meaning.
    """
    if not isinstance(job.config, StudentConfig) or job.config.start_from is None:
        return None
    key = f"{job.name}: start_from"
    block = _pinned(folder).get(job.config.start_from)
    earlier = Earlier.at(key, Path(job.config.start_from), block)
    _check_log(key, folder, earlier)
    if (experiment.data.sampling, job.config.sampling) != (
        earlier.experiment.data.sampling,
        earlier.job.config.sampling,
    ):
        raise UserError(f"{key}: it learned from labels that were sampled otherwise; set the same sampling")
    ids, new = _ids(earlier.folder, folder)
    network = unallocated(earlier.job.name, earlier.job.config)
    donor = Donor.at(earlier.checkpoints, earlier.block, earlier.job.name, earlier.job.config, network)
    return StartFrom(donor, ids, new, job.config, make, job.seed)


def _check_log(key: str, folder: RunFolder, earlier: Earlier) -> None:
    old, new = (EventLog.open(one.tables / "events").schema for one in (earlier.folder, folder))
    for name in ALIKE:
        if getattr(old, name) != getattr(new, name):
            what = "buckets or scales of numeric features" if name in ("edges", "scales") else name
            raise UserError(f"{key}: its log has other {what} than this one, so its weights mean something else here")
    stores = [SampleStore(one.store) for one in (earlier.folder, folder)]
    if stores[0].action_names != stores[1].action_names:
        raise UserError(f"{key}: its log has other action types, or in another order, than this one")
    if not new.has_time or int(stores[1].time[0]) <= earlier.end:
        ends = np.datetime64(earlier.end, "us").astype("datetime64[s]")
        raise UserError(
            f"{key}: it learned until {ends}, and this log begins no later, so predictions would know their labels; "
            "give it the log from after that"
        )


def _ids(old: RunFolder, new: RunFolder) -> tuple[dict[str, Tensor], int]:
    """Return (by table's name which row each old one is now, how many ids only the new log has)."""
    codes = {name: _codes(old.store, new.store, name) for name in dict.fromkeys(VOCABULARY.values())}
    count = sum(size - int((found > 0).sum()) for found, size in codes.values())
    return {table: codes[name][0] for table, name in VOCABULARY.items()}, count


def _codes(old: Path, new: Path, name: str) -> tuple[Tensor, int]:
    """Return (int64 [1 + old ids], the new index of each, 0 for none; the number of new ids)."""
    known, found = (pl.read_parquet(store / f"{name}.parquet") for store in (old, new))
    if not known.width or not found.width:
        return torch.zeros(1 + len(known), dtype=torch.int64), len(found)
    codes = Vocabulary.load(new / f"{name}.parquet").encode(known["id"], grow=False)
    return torch.from_numpy(np.r_[0, codes].astype(np.int64)), len(found)
