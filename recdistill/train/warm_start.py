"""A student begins, at one point of the log, from its teacher's rows or network as they were there.

Up to that point the student learns by itself, so that all its predictions are prequential. Of rows, its network then
goes on with the teacher's at its own width, turned and scaled onto those that it had (compress/project.py); tables
whose rows meet in dot products are projected together. Of a network, it goes on with a part of the teacher's
(compress/inherit.py), and what it had learned itself is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recdistill.checkpoint.store import Checkpoints
from recdistill.compress.inherit import check_inheritance, inherit
from recdistill.compress.project import leading, turn
from recdistill.config.experiment import Experiment
from recdistill.config.models import ModelConfig
from recdistill.config.starts import Part, WarmStartConfig
from recdistill.data.batch.extras import extras_of
from recdistill.data.store.encoder import field_counts
from recdistill.data.store.sample_store import SampleStore
from recdistill.distributed.ranks import Ranks
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.sharded import spread_tables
from recdistill.models.factory import table_modules
from recdistill.models.heads import Towers
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, jobs_by_name, teacher_names
from recdistill.tables.events import EventLog
from recdistill.train.donor import Donor, DonorRows
from recdistill.train.learner import Learner
from recdistill.train.memory_check import backbone_of
from recdistill.train.schedule import Plan

__all__ = ["Make", "Taken", "WarmStart", "begun_from", "check_parts", "take_network", "take_rows", "warm_start_of"]

Make = Callable[[ModelConfig, int], Towers]  # configuration, seed -> a network with the student's towers, on the host
Pair = tuple[GrowableTable, DonorRows]
SOURCES: dict[str, tuple[Part, tuple[str, ...]]] = {  # a student's table: its part, and the teacher's that it may be of
    "item": ("item", ("item",)),
    "past": ("item", ("past", "item")),  # past events, where a network has a table of its own for them
    "user": ("user", ("user",)),
    "context": ("context", ("context",)),
}


@dataclass(frozen=True)
class Taken:
    """What was taken over: rows of all tables together, and the floating point operations that it took; left: rows of
    ids that are not known here; new: ids known here alone.
    """

    rows: int
    flops: float
    left: int = 0
    new: int = 0


@dataclass(frozen=True)
class WarmStart:
    """block: before which it happens; thaw: before which the rows learn again, None for never or where they are not
    frozen. student, make, seed: what makes its network, for `parts: [network]`.
    """

    block: int
    thaw: int | None
    config: WarmStartConfig
    donor: Donor
    student: ModelConfig
    make: Make
    seed: int

    def before(self, block: int, learner: Learner) -> Taken | None:
        """Do what is to be done before a block; return what was taken over."""
        if block == self.thaw:
            for table in learner.tables:
                table.thaw()
        if block != self.block:
            return None
        if "network" in self.config.parts:
            return self._take_network(learner)
        ranks = learner.dense.ranks
        return take_rows(learner.network, self.donor, self.config.parts, self.config.frozen > 0, ranks)

    def _take_network(self, learner: Learner) -> Taken:
        rows = take_network(learner, self.donor, self.student, self.make, self.seed)
        for table in learner.tables if self.config.frozen else ():
            table.freeze(table.state()["rows"])
        return Taken(rows, 0.0)


def take_network(
    learner: Learner,
    donor: Donor,
    student: ModelConfig,
    make: Make,
    seed: int,
    ids: Mapping[str, Tensor] | None = None,
) -> int:
    """Let a learner of the configuration `student` go on as a part of the donor's network, its rows by `ids` (see
    `Donor.load_into`); return how many rows were taken over. make, seed: see `WarmStart`.

    A call of all ranks together, each of which holds both networks' dense parts meanwhile.
    """
    ranks = learner.dense.ranks
    with torch.random.fork_rng(devices=[]):
        old, new = make(donor.config, seed), make(student, seed)
    for network in (old, new):
        spread_tables(network, ranks)
    donor.load_into(old, ids)
    rows = inherit(old, new, ranks)
    learner.become(new)
    return sum(ranks.gather(rows))


def check_parts(name: str, student: nn.Module, teacher: str, donor: nn.Module, parts: Sequence[Part]) -> None:
    """Raise UserError, for the student `name`, where a part has no table in its network or in its teacher's, or the one
    network cannot become the other.
    """
    if "network" in parts:
        return _check_network(name, student, teacher, donor)
    tables = {name: [table.name for table in table_modules(net)] for name, net in ((name, student), (teacher, donor))}
    for part in parts:
        for owner, have in tables.items():
            if part not in have:
                raise UserError(
                    f"{name}.distill.warm_start.parts: {owner} has no table {part} to project; its tables are: "
                    f"{', '.join(have) or 'none'}"
                )


def _check_network(name: str, student: nn.Module, teacher: str, donor: nn.Module) -> None:
    where = f"{name}.distill.warm_start.parts: network"
    if type(student) is not type(donor):
        raise UserError(
            f"{where}: {teacher} is a {type(donor).__name__}, the student a {type(student).__name__}; take rows alone, "
            "as parts: [item], or the same kind"
        )
    try:
        check_inheritance(donor, student)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def take_rows(network: nn.Module, donor: Donor, parts: Sequence[Part], freeze: bool, ranks: Ranks) -> Taken:
    """Give a network's tables of these parts the donor's rows at their own widths, without moments; the others stay. A
    call of all ranks together.
    """
    found = [_take(group, freeze, ranks) for group in _groups(network, donor, parts).values()]
    return Taken(sum(one.rows for one in found), sum(one.flops for one in found))


def _groups(network: nn.Module, donor: Donor, parts: Sequence[Part]) -> dict[object, list[Pair]]:
    """Return the pairs of tables that are projected alike: those of equal widths; context meets none of the others."""
    groups: dict[object, list[Pair]] = {}
    for table in table_modules(network):
        part, names = SOURCES.get(table.name, (None, ()))
        found = next((rows for name in names if (rows := donor.rows(name)) is not None), None)
        if part in parts and found is not None:
            groups.setdefault((part == "context", found.width, table.width), []).append((table, found))
    return groups


def _take(pairs: list[Pair], freeze: bool, ranks: Ranks) -> Taken:
    old, width = pairs[0][1].width, pairs[0][0].width
    basis = leading((weight for _, found in pairs for _, weight in found.pieces(ranks)), old, width, ranks)
    products, squares = torch.zeros(width, width, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for table, found in pairs:
        for rows, weight in found.pieces(ranks):
            mine, projected = table.peek(rows).double(), weight.double() @ basis
            products += projected.T @ mine
            squares += torch.stack((mine.square().sum(), projected.square().sum()))
    ranks.sum_in_place([products, squares])
    own, theirs = squares.tolist()
    turned = basis @ turn(products) * ((own / theirs) ** 0.5 if own and theirs else 1.0)
    for table, found in pairs:
        for rows, weight in found.pieces(ranks):
            table.take_rows(rows, (weight.double() @ turned).float())
            if freeze:
                table.freeze(rows)
    count = sum(len(found) for _, found in pairs)
    return Taken(count, 2.0 * count * (old**2 * (width < old) + 2 * old * width + width**2))


def begun_from(experiment: Experiment, job: Job, rows: int) -> frozenset[int]:
    """Return the blocks of a job, over a log of `rows` samples, whose checkpoints students begin from."""
    students = (one for one in jobs_by_name(experiment).values() if one.distill and one.distill.warm_start)
    starts = ((one, one.distill.warm_start) for one in students if one.distill)
    return frozenset(
        _plan(one, rows).block_at(start.at) - 1
        for one, start in starts
        if start and job.name in teacher_names(experiment, one)
    )


def _plan(job: Job, rows: int) -> Plan:
    return Plan.of(job.config, rows, job.block_rows, job.seed)


def warm_start_of(folder: RunFolder, experiment: Experiment, job: Job, plan: Plan, make: Make) -> WarmStart | None:
    """Return how a job of a run begins from its teacher, None where it does not; make: see `WarmStart`.

    Raises UserError where the teacher is not there as it was at that point; plan: see `check_points`.
    """
    config = job.distill.warm_start if job.distill else None
    if config is None:
        return None
    block = plan.block_at(config.at)
    teacher = jobs_by_name(experiment)[teacher_names(experiment, job)[0]]
    schema, actions = EventLog.open(folder.tables / "events").schema, SampleStore(folder.store).actions
    with torch.device("meta"):
        network = backbone_of(teacher.config, 0, *field_counts(schema), actions, extras_of(schema))
    donor = Donor.at(Checkpoints(folder.model(teacher.name)), block - 1, teacher.name, teacher.config, network)
    thaw = plan.block_at(config.thaw) if config.frozen and config.thaw < 1 else None
    return WarmStart(block, thaw, config, donor, job.config, make, job.seed)
