"""A student goes on, from one point of the log, as a larger one of the experiment, pruned to its own size.

Up to there the larger one is trained for all the sizes that come from it. Its checkpoint of then knows nothing of what
came later, and all of it is taken over, moments, gates and random state too: from there on the student is, to the bit,
one that was pruned there from that size by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from recdistill.checkpoint.sharded_tensors import Stored
from recdistill.checkpoint.store import Checkpoints
from recdistill.compress.plan import config_at, option_of, other_size
from recdistill.compress.resizer import sizes_of
from recdistill.compress.transplant import check_alike
from recdistill.config.experiment import Experiment
from recdistill.config.models import ModelConfig, StudentConfig
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.models.widths import widths_of
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, enlarged_by_name, jobs_by_name
from recdistill.runs.names import ModelName
from recdistill.train.donor import check_there
from recdistill.train.memory_check import unallocated
from recdistill.train.schedule import Plan
from recdistill.train.warm_start import Make

__all__ = ["PrunedFrom", "begins_at", "check_moment", "check_pruned", "gone_on_from", "larger_of", "pruned_from_of"]


@dataclass(frozen=True)
class PrunedFrom:
    """block: the student's first one; checkpoints: of the larger model; larger, make, seed: what makes its network."""

    block: int
    checkpoints: Checkpoints
    larger: ModelConfig
    make: Make
    seed: int

    def taken(self) -> tuple[dict[str, Stored], dict[str, Any]]:
        """Return (tensors, state) of the larger model's checkpoint as those of one whose width changes: by the
        importance that was measured, by magnitude where none was.
        """
        state = self.checkpoints.state(self.block - 1)
        learner = state["learner"]
        if "resizer" not in learner:
            sizes = sizes_of(self.larger, self.make(self.larger, self.seed), "magnitude")
            learner = {**learner, "resizer": sizes}
        return self.checkpoints.stored(self.block - 1), {**state, "learner": learner}


def larger_of(experiment: Experiment, config: ModelConfig) -> StudentConfig | None:
    """Return the student that a model goes on as, None for a model that begins by itself."""
    start = config.pruned_from if isinstance(config, StudentConfig) else None
    return None if start is None else experiment.students[start.student]


def begins_at(config: ModelConfig, plan: Plan) -> int:
    """Return the first block that a model is trained on as itself."""
    start = config.pruned_from if isinstance(config, StudentConfig) else None
    return 0 if start is None else plan.block_at(start.at)


def check_pruned(experiment: Experiment, name: str, config: StudentConfig, backbone: nn.Module) -> None:
    """Raise UserError, for the student `name`, where the one that it is to go on as cannot be pruned to its size."""
    if (start := config.pruned_from) is None:
        return
    larger, key = experiment.students[start.student], f"{name}.pruned_from"
    before = _check_larger(key, start.student, larger, other_size(larger), config, backbone)
    own = widths_of(backbone)
    for width in own.stacks:
        if larger.prune is not None and larger.prune.importance == "activation" and own.sizes[width] < before[width]:
            raise UserError(
                f"{key}: '{start.student}' has importance activation, which knows nothing of {width}; set it to "
                "taylor or magnitude"
            )


def check_moment(experiment: Experiment, name: str, config: StudentConfig, rows: int) -> int:
    """Return the block that the student `name` begins with, over a log of `rows` samples.

    Raises UserError where that is the log's first, or the one that it goes on as is no larger by then.
    """
    key, plan = f"{name}.pruned_from", Plan.of(config, rows, experiment.checkpoint_rows, 0)
    block, start, larger = begins_at(config, plan), config.pruned_from, larger_of(experiment, config)
    if start is None or larger is None:
        return block
    if not block:
        raise UserError(
            f"{key}: at {start.at:g} of {rows:,} samples ends before the first checkpoint; lower checkpoint_rows, "
            f"which is {experiment.checkpoint_rows:,}"
        )
    now = config_at(larger, block - 1, plan.blocks)
    _check_larger(key, start.student, larger, now, config, unallocated(name, config))
    return block


def _check_larger(
    key: str, owner: str, larger: StudentConfig, now: ModelConfig, config: StudentConfig, backbone: nn.Module
) -> dict[str, int]:
    """Return the widths of a larger student that has the configuration `now`; UserError where it is not larger."""
    old = unallocated(f"students.{owner}", now)
    try:
        check_alike(old, backbone)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    before, own = dict(widths_of(old).sizes), widths_of(backbone).sizes
    may = {width.partition(".")[0] for width in own}
    for option in {*config.options, *larger.options} - may:
        if option_of(config, option) != option_of(larger, option):
            raise UserError(f"{key}: '{owner}' has another {option}; the two may differ in {', '.join(sorted(may))}")
    narrower = [width for width in own if before[width] < own[width]]
    if narrower or before == dict(own):
        width = next(iter(narrower), "width")
        raise UserError(
            f"{key}: '{owner}' is no larger at that point: {width} {before[width]} against the student's own "
            f"{own[width]}; name a larger student, or lower at"
        )
    return before


def gone_on_from(experiment: Experiment, job: Job, rows: int) -> frozenset[int]:
    """Return the blocks of a job, over a log of `rows` samples, whose checkpoints smaller students go on from."""
    names = [name for name, larger in enlarged_by_name(experiment).items() if larger.name == job.name]
    jobs, plan = jobs_by_name(experiment) if names else {}, Plan.of(job.config, rows, job.block_rows, job.seed)
    return frozenset(begins_at(jobs[name].config, plan) - 1 for name in names)


def pruned_from_of(folder: RunFolder, experiment: Experiment, job: Job, make: Make) -> PrunedFrom | None:
    """Return how a job of a run goes on as a larger model, None where it does not; make: see `WarmStart`.

    Raises UserError where the log is too short for it, or the larger model is not there as it was at that point.
    """
    if not isinstance(job.config, StudentConfig) or job.config.pruned_from is None:
        return None
    larger, name = enlarged_by_name(experiment)[job.name], f"students.{ModelName.parse(job.name).name}"
    block = check_moment(experiment, name, job.config, len(SampleStore(folder.store)))
    checkpoints = Checkpoints(folder.model(larger.name))
    check_there(checkpoints, block - 1, larger.name)
    return PrunedFrom(block, checkpoints, larger.config, make, job.seed)
