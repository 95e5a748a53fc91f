"""The stage behind `recdistill choose`: which light student to serve under a budget of latency and bytes.

Rounds of more and more rows, each a run of its own that resumes (`round-1`, `round-2`, `round-3`); after a round its
students are exported and their artefacts measured, once. See `evaluate/choice.py` for what goes on and what is chosen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.choose_costs import costs_of
from recdistill.app.progress import console, print_line
from recdistill.app.run import ingest_stage, open_run, report_stage, run_stages
from recdistill.config.candidates import RECIPE, candidate_grid, own_name
from recdistill.config.experiment import Experiment
from recdistill.config.grid import Grid, read_grid, with_methods
from recdistill.config.load import load_file
from recdistill.config.models import StudentConfig
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.evaluate.choice import (
    Budget,
    Choice,
    Cost,
    Step,
    Tried,
    going_on,
    nearest,
    recipe_steps,
    recommended,
    with_front,
)
from recdistill.evaluate.headline import primary_metric
from recdistill.evaluate.summary import LABELS, Summary, write_atomic
from recdistill.report.choice import write_choice

__all__ = ["Study", "choose"]

SHARES = (1 / 9, 1 / 3, 1.0)  # of the log's rows, by round
FIRST_SEEDS = 2  # of the rounds before the last
MIN_ROWS = 100  # of a round
CHECKPOINTS = 10  # of a round, at least, where a student is pruned, which is done between two


@dataclass(frozen=True)
class Study:
    """What is asked: the experiment file, the grid of students or None for the usual ones, the budget, how many
    candidates a request has; data and assignments as of `recdistill run`.
    """

    config: Path
    grid: Path | None
    budget: Budget
    candidates: int
    data: Path | None
    assignments: list[str]

    def experiment(self, names: list[str] | None = None) -> tuple[Experiment, dict[str, dict[str, Any]]]:
        """Return (an experiment of the students `names`, None for all, what each changes)."""
        grid, where = self._grid()
        experiment, changes = with_methods(self.config, grid, where, self.assignments, "choice")
        kept = [*changes] if names is None else names
        students = {name: experiment.students[name] for name in kept}
        return experiment.model_copy(update={"students": students}), {name: changes[name] for name in kept}

    def quantised(self, names: Collection[str], metric: str) -> list[str]:
        """Return which students are served with rows of int8; none of a regression, which has no NE to know by what
        they cost.
        """
        return [name for name in names if name == RECIPE and self.grid is None and metric in ("auc", "gauc")]

    def _grid(self) -> tuple[Grid, str]:
        if self.grid is not None:
            return read_grid(self.grid), str(self.grid)
        name, student = self._own()
        return candidate_grid(name, student), "the students that are tried"

    def _own(self) -> tuple[str, StudentConfig]:
        students = load_file(self.config, self.assignments).students
        if not students:
            raise UserError(f"{self.config}: names no student; give one, or several under methods: in a --grid")
        return next(iter(students.items()))

    def recipe_of(self, names: Collection[str]) -> tuple[str, str] | None:
        """Return, of the students `names`, the one that the recipe makes, and the recipe; None unless both are there,
        and of a grid's.
        """
        both = None if self.grid is not None else (own_name(self._own()[1]), RECIPE)
        return both if both is not None and {*both} <= {*names} else None


def choose(
    config: Path,
    grid: Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
    assignments: list[str] | None = None,
    latency_ms: float | None = None,
    memory_mib: float | None = None,
    candidates: int = 200,
) -> Choice:
    """Run every round, and write choice.json, choice.html, front.svg and chosen.yaml into `out` (default
    runs/NAME-choice); run again to resume. Latency is that of a request of `candidates`.

    Raises UserError when no student meets the budget, with the nearest.
    """
    budget = Budget(latency_ms=latency_ms, memory_mib=memory_mib)
    study = Study(config, grid, budget, candidates, data, assignments or [])
    experiment, changes = study.experiment()
    root = out or Path("runs") / experiment.name
    rows = _rows(study, experiment, root / "log")
    found, steps, summary = _rounds(study, [*changes], rows, root)
    choice = _choice(study, experiment.name, found, steps, summary)
    write_choice(choice, root)
    write_atomic(_chosen_yaml(study, choice, rows), root / "chosen.yaml")
    _print(choice)
    print_line(f"choice: {root / 'choice.html'}; to run it: recdistill run {root / 'chosen.yaml'}")
    return choice


def _rounds(study: Study, names: list[str], rows: int, root: Path) -> tuple[dict[str, Tried], list[Step], Summary]:
    """Return (every student as of its last round, the recipe's steps as of its last one, the last round's scores)."""
    found, shares = dict[str, Tried](), [share for share in SHARES if share == 1 or rows * share >= MIN_ROWS]
    steps = list[Step]()
    for number, share in enumerate(shares, 1):
        last, part = share == 1, int(rows * share)
        print_line(f"round {number}: {len(names)} students, {part:,} of {rows:,} rows")
        tried, summary = _round(study, names, part, last, root / f"round-{number}")
        if both := study.recipe_of(names):
            by_name = {one.name: one for one in tried}
            steps = recipe_steps(*(by_name[name] for name in both))
        within = [one for one in tried if one.exceeds(study.budget) is None]
        if not within:
            why = nearest(tried, study.budget)
            raise UserError(f"{study.config}: {why}; raise the budget, or name others in a --grid")
        names = [one.name for one in within] if last else going_on(within)
        found |= {one.name: _left(one, number, names, study.budget) for one in tried}
    return found, steps, summary


def _rows(study: Study, experiment: Experiment, folder: Path) -> int:
    """Return how many rows the log has, which is read for it."""
    with open_run(experiment, study.data, folder, trains=False) as run:
        ingest_stage(run, experiment, study.data)
        return len(SampleStore(run.store))


def _round(study: Study, names: list[str], rows: int, last: bool, folder: Path) -> tuple[list[Tried], Summary]:
    """Return the students of one round, and its scores. last: with every seed and control, and all rows."""
    experiment, changes = study.experiment(names)
    experiment = _often(experiment, rows)
    if not last:
        first = {"seeds": experiment.evaluate.seeds[:FIRST_SEEDS], "teacher_seeds": 1}
        evaluate, data = (
            experiment.evaluate.model_copy(update=first),
            experiment.data.model_copy(update={"limit": rows}),
        )
        experiment = experiment.model_copy(update={"evaluate": evaluate, "data": data, "controls": []})
    with open_run(experiment, study.data, folder) as run:
        summary = run_stages(run, experiment, study.data)
        if last:
            report_stage(run)
        metric = primary_metric(summary)
        costs = costs_of(run, experiment, study.candidates, study.quantised(names, metric), metric)
    return with_front([_tried(name, changes[name], rows, summary, costs[name]) for name in names]), summary


def _often(experiment: Experiment, rows: int) -> Experiment:
    """Return an experiment with checkpoints enough to prune between, where a student is pruned."""
    if all(student.prune is None for student in experiment.students.values()):
        return experiment
    return experiment.model_copy(
        update={"checkpoint_rows": min(experiment.checkpoint_rows, max(1, rows // CHECKPOINTS))}
    )


def _tried(name: str, changes: dict[str, Any], rows: int, summary: Summary, cost: Cost) -> Tried:
    student, metric = summary.students[name], primary_metric(summary)
    return Tried(
        name=name,
        changes=changes,
        rows=rows,
        seeds=len(student.distilled.seeds),
        raw=student.raw.metric(metric),
        distilled=student.distilled.metric(metric),
        distilled_std=student.distilled.std.get(metric),
        cost=cost,
    )


def _left(one: Tried, number: int, going: list[str], budget: Budget) -> Tried:
    over = one.exceeds(budget)
    if over is None and one.name in going:
        return one
    return one.model_copy(update={"left_out": over or f"round {number}: others were better"})


def _choice(study: Study, name: str, found: dict[str, Tried], steps: list[Step], summary: Summary) -> Choice:
    metric = primary_metric(summary)
    finalists = [one for one in found.values() if one.left_out is None]
    chosen, reasons = recommended(finalists)
    if chosen.cost.whole is not None:
        reasons.append(f"{chosen.name} is served with rows of int8: recdistill export ... --rows-as int8")
    return Choice(
        name=name,
        metric=metric,
        budget=study.budget,
        candidates=study.candidates,
        teacher=summary.models.teacher.metric(metric),
        tried=sorted(found.values(), key=lambda one: (one.left_out is not None, -one.rows, -one.quality)),
        recommended=chosen.name,
        reasons=reasons,
        recipe=steps,
    )


def _chosen_yaml(study: Study, choice: Choice, rows: int) -> str:
    """Return an experiment file of the recommended student, ready to run."""
    experiment, _ = study.experiment([choice.recommended])
    renamed = _often(experiment, rows).model_copy(update={"name": choice.recommended})
    tree = renamed.model_dump(mode="json", exclude_unset=True)
    tree["students"] = {"light": tree["students"][choice.recommended]}
    reasons = "".join(f"# {reason}.\n" for reason in choice.reasons)
    return f"# Chosen by recdistill choose.\n{reasons}" + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _print(choice: Choice) -> None:
    label = LABELS[choice.metric]
    table = Table(
        "student", "rows", f"{label} raw", "distilled", "p99 ms", "MiB", "", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for one in choice.tried:
        quality = ["-" if value is None else f"{value:.4f}" for value in (one.raw, one.served)]
        note = one.left_out or (
            "recommended" if one.name == choice.recommended else "on the front" if one.front else ""
        )
        table.add_row(
            one.name, f"{one.rows:,}", *quality, f"{one.cost.latency_ms:.2f}", f"{one.cost.memory_mib:,.1f}", note
        )
    console.print(f"teacher: {label} {'-' if choice.teacher is None else f'{choice.teacher:.4f}'}")
    console.print(table)
    for step in choice.recipe:
        score, cost = "-" if step.quality is None else f"{step.quality:.4f}", step.cost
        took = f"{cost.latency_ms:.2f} ms, {cost.memory_mib:,.1f} MiB"
        print_line(f"recipe, of {step.rows:,} rows, {step.name}: {label} {score}, {took}")
    for reason in choice.reasons:
        print_line(f"recommended: {reason}")
