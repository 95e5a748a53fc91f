"""The stage behind `recdistill plan`: what a teacher will need, before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.layouts import FULL, Links, Parts, Price, layouts, parts_of, price
from recdistill.app.progress import console
from recdistill.config.load import load_file, load_text
from recdistill.config.models import ModelConfig, RowsConfig, TeacherConfig
from recdistill.config.presets import presets
from recdistill.distributed.shard_units import gathered
from recdistill.errors import UserError
from recdistill.models.factory import dense_parameters, table_modules
from recdistill.models.flops import Cost, cost_of
from recdistill.train.memory_check import DENSE_BYTES, MAX_ACTIONS, countable

__all__ = ["Machine", "Needs", "best_first", "needs_of", "plan", "teacher_of"]

GIB = 1 << 30
ROW = 3  # floats per embedding float: itself and Adam's two moments
FIELDS, LISTS = 16, 1  # side features assumed; the log's own number moves little
SHOWN = 4  # layouts besides those that are implemented
EVENT = 8  # bytes of an event on its way in: item int32, age and action


@dataclass(frozen=True)
class Machine:
    """gpus: ranks; memory: bytes of each; peak: FLOP/s of each; share: of the peak that is reached (MFU);
    network: bytes/s of each; link, node: bytes/s inside a node of so many ranks; width: bytes of a number on its way.
    """

    gpus: int
    memory: float
    peak: float
    share: float
    network: float
    link: float = 4.5e11
    node: int = 8
    width: int = 4

    @property
    def links(self) -> Links:
        """Return what layouts are priced by."""
        return Links(self.peak * self.share, self.network, self.link, self.node, self.width)


@dataclass(frozen=True)
class Needs:
    """Of one rank, in bytes, but rows (per second, all ranks) and days; fully sharded dense part, row-sharded tables.

    batch: its rows of a step, at most, for ranks share out the step's. gathered: the largest layer, the next, and what
    is in none. moved: over the network per step, weights gathered twice, once those in no layer, and gradients
    scattered once, embedding rows there and back; layouts: what other ways would cost. computing, moving: seconds of a
    step, which overlap: the longer one decides.
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
    layouts: tuple[Price, ...] = ()

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
    moved_rows = (ranks - 1) / ranks * machine.width * 2 * distinct * config.width
    priced = _priced(parts_of(backbone, cost), machine, config.batch, moved_rows)
    computing, moving = priced[0].computing, priced[0].moving
    speed = config.batch / max(computing, moving)
    return Needs(
        cost=cost,
        batch=batch,
        weights=DENSE_BYTES * cost.dense_parameters / ranks,
        gathered=0.0 if ranks == 1 else 4 * (outside + 2 * largest),
        activations=batch * cost.activation_bytes,
        tables=ROW * 4 * sum(_numbers(config.rows, width, ids) for width in widths) / len(widths) / ranks,
        moved=moving * machine.network,
        computing=computing,
        moving=moving,
        rows=speed,
        arriving=speed * EVENT * config.history,
        days=rows / speed / 86_400,
        layouts=priced,
    )


def _priced(parts: Parts, machine: Machine, batch: int, tables: float) -> tuple[Price, ...]:
    """Return the prices of all layouts, that of the implemented one first."""
    found = layouts(parts, machine.gpus, machine.node)
    return tuple(price(parts, layout, machine.links, batch, tables) for layout in found)


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
    if len(needs.layouts) > 1:
        console.print(_layouts(needs, machine, teacher.batch, rows))
    if needs.memory > machine.memory:
        raise UserError(
            f"plan: a rank needs {needs.memory / GIB:,.1f} GiB and has {machine.memory / GIB:,.0f}; "
            f"{_fits(machine, rows, ids)}"
        )


def _memory(needs: Needs, priced: Price) -> float:
    """Return the bytes of a rank in a layout; the backward pass keeps as much in all of them."""
    return priced.weights + needs.activations + needs.tables


def best_first(needs: Needs, machine: Machine) -> list[Price]:
    """Return the layouts that fit, the fastest first; of equally fast ones that with the fewest ranks to a layer."""
    fitting = [one for one in needs.layouts if _memory(needs, one) <= machine.memory]
    return sorted(fitting, key=lambda one: (one.seconds, one.layout.tensor, one.layout.stages))


def _layouts(needs: Needs, machine: Machine, batch: int, rows: float) -> Table:
    """Return what can be trained, ranks that share no layer and the best that do, and the best others, by seconds of a
    step.
    """
    title = "all computed; the last column says how those are trained that can be"
    head = ("tensor x stages x copies", "layers", "GiB", "computing", "waiting", "moving", "seconds", "days", "train")
    table = Table(*head, title=title, box=SIMPLE_HEAD, title_justify="left")
    best = best_first(needs, machine)
    able = [one for one in best if one.layout.implemented and one.layout.tensor > 1]
    for one in [needs.layouts[0], *able[:1], *[one for one in best if not one.layout.implemented][:SHOWN]]:
        sizes, seconds = one.layout, (one.computing, one.waiting, one.moving, one.seconds)
        table.add_row(
            f"{sizes.tensor} x {sizes.stages} x {sizes.copies}",
            "sharded" if sizes.sharded else "stay",
            f"{_memory(needs, one) / GIB:,.1f}",
            *(f"{each:,.3g}" for each in seconds),
            f"{rows / batch * one.seconds / 86_400:,.2f}",
            one.layout.words + " --short" * (one.layout.implemented and machine.width < FULL),
        )
    return table


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
