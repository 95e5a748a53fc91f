"""The stage behind `recdistill choose`: which light student to serve under a budget of latency and bytes.

Rounds of more and more rows, each a run of its own that resumes (`round-1`, `round-2`, `round-3`; `round-2-2` where
another budget let other students go on); after a round its students are exported and their artefacts measured, once.
See `evaluate/choice.py` for what goes on and what is chosen.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.choose_costs import costs_of
from recdistill.app.choose_file import CHOSEN, chosen_yaml, commands
from recdistill.app.choose_study import Study, often
from recdistill.app.export_check import check_installed
from recdistill.app.progress import console, print_line
from recdistill.app.run import ingest_stage, open_run, report_stage, run_stages
from recdistill.config.experiment import Experiment
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.evaluate.choice import (
    Budget,
    Choice,
    Cost,
    Step,
    Tried,
    correction,
    going_on,
    nearest,
    recipe_steps,
    recommended,
    with_front,
)
from recdistill.evaluate.headline import primary_metric
from recdistill.evaluate.summary import LABELS, Summary, write_atomic
from recdistill.report.choice import write_choice
from recdistill.runs.folder import RunFolder

__all__ = ["choose"]

SHARES = (1 / 9, 1 / 3, 1.0)  # of the log's rows, by round
FIRST_SEEDS = 2  # of the rounds before the last
MIN_ROWS = 100  # of a round


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
    check_installed()  # what measures the students, which is after an hour of training, say
    root = out or Path("runs") / experiment.name
    rows = _rows(study, experiment, root / "log")
    found, steps, summary = _rounds(study, [*changes], rows, root)
    choice = _choice(study, experiment.name, found, steps, summary)
    write_choice(choice, root)
    write_atomic(chosen_yaml(study, choice, rows, root), root / CHOSEN)
    _print(choice)
    print_line(f"choice: {root / 'choice.html'}")
    for line in commands(study, choice, root):
        print_line(line)
    return choice


def _rounds(study: Study, names: list[str], rows: int, root: Path) -> tuple[dict[str, Tried], list[Step], Summary]:
    """Return (every student as of its last round, the recipe's steps as of its last one, the last round's scores)."""
    found, shares = dict[str, Tried](), [share for share in SHARES if share == 1 or rows * share >= MIN_ROWS]
    steps = list[Step]()
    for number, share in enumerate(shares, 1):
        last, part = share == 1, int(rows * share)
        print_line(f"round {number}: {len(names)} students, {part:,} of {rows:,} rows")
        tried, summary = _round(study, names, part, last, _folder(root, number, names))
        if both := study.recipe_of(names):
            by_name = {one.name: one for one in tried}
            steps = recipe_steps(*(by_name[name] for name in both))
        within = [one for one in tried if one.exceeds(study.budget) is None]
        if not within:
            why = nearest(tried, study.budget)
            raise UserError(f"{study.config}: {why}; raise the budget, or name others in a --grid with another --out")
        names = [one.name for one in within] if last else going_on(within)
        found |= {one.name: _left(one, number, names, study.budget) for one in tried}
    return found, steps, summary


def _folder(root: Path, number: int, names: list[str]) -> Path:
    """Return a round's folder: the one where these students are, or a new one, as another budget lets others go on."""
    paths = (root / (f"round-{number}-{again}" if again > 1 else f"round-{number}") for again in count(1))
    return next(path for path in paths if _takes(RunFolder(path), names))


def _takes(run: RunFolder, names: list[str]) -> bool:
    return not run.exists or run.experiment().students.keys() == {*names}


def _rows(study: Study, experiment: Experiment, folder: Path) -> int:
    """Return how many rows the log has, which is read for it."""
    with open_run(experiment, study.data, folder, trains=False) as run:
        ingest_stage(run, experiment, study.data)
        return len(SampleStore(run.store))


def _round(study: Study, names: list[str], rows: int, last: bool, folder: Path) -> tuple[list[Tried], Summary]:
    """Return the students of one round, and its scores. last: with every seed and control, and all rows."""
    experiment, changes = study.experiment(names)
    experiment = often(experiment, rows)
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
        reasons.append(f"{chosen.name} is served with rows of int8")
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
        stale=study.stale_teachers() if steps else [],
    )


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
    if choice.stale:
        print_line(f"recipe: {correction(choice.stale)}")
    for reason in choice.reasons:
        print_line(f"recommended: {reason}")
