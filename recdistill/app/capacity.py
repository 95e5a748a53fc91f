"""The stage behind `recdistill plan`: what a teacher will need, before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.progress import console
from recdistill.config.load import load_file, load_text
from recdistill.config.models import ModelConfig, RowsConfig, TeacherConfig
from recdistill.config.presets import presets
from recdistill.distributed.shard_units import gathered
from recdistill.errors import UserError
from recdistill.models.factory import dense_parameters, table_modules
from recdistill.models.flops import Cost, cost_of
from recdistill.train.memory_check import DENSE_BYTES, MAX_ACTIONS, countable

__all__ = ["Machine", "Needs", "needs_of", "plan", "teacher_of"]

GIB = 1 << 30
ROW = 3  # floats per embedding float: itself and Adam's two moments
FIELDS, LISTS = 16, 1  # side features assumed; the log's own number moves little
EVENT = 8  # bytes of an event on its way in: item int32, age and action


@dataclass(frozen=True)
class Machine:
    """gpus: ranks; memory: bytes of each; peak: FLOP/s of each; share: of the peak that is reached (MFU);
    network: bytes/s of each.
    """

    gpus: int
    memory: float
    peak: float
    share: float
    network: float


@dataclass(frozen=True)
class Needs:
    """Of one rank, in bytes, but rows (per second, all ranks) and days; fully sharded dense part, row-sharded tables.

    batch: its rows of a step, at most, for ranks share out the step's. gathered: the largest layer, the next, and what
    is in none. moved: over the network per step, weights gathered twice and gradients scattered once, embedding rows
    there and back. computing, moving: seconds of a step, which overlap: the longer one decides.
    """

    cost: Cost
    batch: int
    weights: float
    gathered: float
    activations: float
    tables: float
    moved: float
    computing: float
    moving: float
    rows: float
    arriving: float
    days: float

    @property
    def memory(self) -> float:
        """Return the bytes of a rank."""
        return self.weights + self.gathered + self.activations + self.tables


def needs_of(config: ModelConfig, machine: Machine, rows: float, ids: float) -> Needs:
    """Return what a model needs on `machine` to learn a log of `rows` samples over `ids` distinct ids, a
    history per sample.
    """
    backbone = countable(config, FIELDS, LISTS, MAX_ACTIONS)
    cost, ranks = cost_of(backbone, config.history), machine.gpus
    batch, (outside, largest) = -(-config.batch // ranks), gathered(backbone)
    widths = [table.width for table in table_modules(backbone)]
    distinct = batch * min(config.history + FIELDS + 2, ids)
    moved = (ranks - 1) / ranks * 4 * (3 * cost.dense_parameters + 2 * distinct * config.width)
    computing, moving = batch * cost.step_flops / (machine.peak * machine.share), moved / machine.network
    speed = config.batch / max(computing, moving)
    return Needs(
        cost=cost,
        batch=batch,
        weights=DENSE_BYTES * cost.dense_parameters / ranks,
        gathered=0.0 if ranks == 1 else 4 * (outside + 2 * largest),
        activations=batch * cost.activation_bytes,
        tables=ROW * 4 * sum(_numbers(config.rows, width, ids) for width in widths) / len(widths) / ranks,
        moved=moved,
        computing=computing,
        moving=moving,
        rows=speed,
        arriving=speed * EVENT * config.history,
        days=rows / speed / 86_400,
    )


def _numbers(rows: RowsConfig | None, width: int, ids: float) -> float:
    """Return how many numbers the rows of a table hold after `ids` distinct ids."""
    if rows is None:
        return ids * width
    narrow = min(rows.narrow, width) if rows.narrow else 0
    return ids * narrow + min(ids, rows.most) * (width - narrow)


def teacher_of(config: Path | None, preset: str | None, assignments: list[str] | None) -> TeacherConfig:
    """Return the teacher of an experiment file, or a preset's; UserError unless one of the two is given."""
    if (config is None) == (preset is None):
        raise UserError("plan: give an experiment file or --preset NAME, one of the two")
    if config is not None:
        return load_file(config, assignments).teacher
    return load_text(
        f"{{name: plan, data: {{}}, teacher: {{preset: {preset}}}}}", assignments, f"--preset {preset}"
    ).teacher


def plan(teacher: TeacherConfig, machine: Machine, rows: float, ids: float) -> None:
    """Print what a teacher needs; UserError, after that, when it does not fit, naming a preset that does."""
    needs = needs_of(teacher, machine, rows, ids)
    console.print(_table(teacher, needs, machine, rows, ids))
    if needs.memory > machine.memory:
        raise UserError(
            f"plan: a rank needs {needs.memory / GIB:,.1f} GiB and has {machine.memory / GIB:,.0f}; "
            f"{_fits(machine, rows, ids)}"
        )


def _fits(machine: Machine, rows: float, ids: float) -> str:
    """Return the largest preset that fits, as advice."""
    known = {name: TeacherConfig.model_validate(keys) for name, keys in presets().items()}
    sizes = {name: dense_parameters(countable(one, FIELDS, LISTS, MAX_ACTIONS)) for name, one in known.items()}
    for name in sorted(known, key=sizes.__getitem__, reverse=True):  # its needs take seconds to count
        if needs_of(known[name], machine, rows, ids).memory <= machine.memory:
            return f"the largest preset that fits is {name}"
    return "no preset fits; give more --gpus or fewer --ids"


def _table(teacher: TeacherConfig, needs: Needs, machine: Machine, rows: float, ids: float) -> Table:
    title = (
        f"{teacher.kind}, width {teacher.width}, {teacher.history:,} events, {teacher.batch:,} rows a step, "
        f"{needs.batch:,} on each of {machine.gpus:,} x {machine.peak / 1e12:,.0f} TFLOP/s at {machine.share:.0%}"
    )
    table = Table("what", "amount", title=title, box=SIMPLE_HEAD, title_justify="left")
    for what, amount in (
        ("dense parameters", f"{needs.cost.dense_parameters:,}"),
        ("FLOPs per row, forward", f"{needs.cost.forward_flops:,}"),
        ("FLOPs per row, a step", f"{needs.cost.step_flops:,}"),
        ("GiB per rank: weights, gradients, Adam", f"{needs.weights / GIB:,.2f}"),
        ("  gathered: a layer, the next, what is in none", f"{needs.gathered / GIB:,.2f}"),
        ("  kept for the backward pass", f"{needs.activations / GIB:,.2f}"),
        (f"  embedding rows and Adam, {ids:,.0f} ids", f"{needs.tables / GIB:,.2f}"),
        ("  together", f"{needs.memory / GIB:,.2f} of {machine.memory / GIB:,.0f}"),
        ("GB per step over a rank's network", f"{needs.moved / 1e9:,.3f}"),
        ("seconds per step: computing", f"{needs.computing:,.3g}"),
        (f"  moving, at {machine.network / 1e9:,.0f} GB/s", f"{needs.moving:,.3g}"),
        ("rows per second, all ranks, by the longer", f"{needs.rows:,.0f}"),
        ("MB per second of input", f"{needs.arriving / 1e6:,.1f}"),
        (f"days for {rows:,.0f} rows", f"{needs.days:,.1f}"),
    ):
        table.add_row(what, amount)
    return table
