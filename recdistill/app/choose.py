"""The stage behind `recdistill choose`: which light student to serve under a budget of latency and bytes.

Rounds of more and more rows, each a run of its own that resumes (`round-1`, `round-2`, `round-3`; `round-2-2` where
another budget let other students go on); after a round its students are exported and their artefacts measured, once.
See `evaluate/choice.py` for what goes on and what is chosen.
"""

from __future__ import annotations

import math
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.choose_costs import costs_of
from recdistill.app.choose_file import CHOSEN, chosen_yaml
from recdistill.app.choose_study import Study
from recdistill.app.export_check import check_installed
from recdistill.app.progress import console, print_line
from recdistill.app.run import ingest_stage, open_run, report_stage, run_stages
from recdistill.config.data import SamplingConfig
from recdistill.config.experiment import Experiment
from recdistill.data.readers.factory import source_rows
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
    reach,
    recipe_steps,
    recommended,
    with_front,
)
from recdistill.evaluate.headline import primary_metric
from recdistill.evaluate.summary import LABELS, Summary, write_atomic
from recdistill.report.choice import write_choice
from recdistill.runs.folder import RunFolder

__all__ = ["choose", "parts_of", "rows_of"]

SHARES = (1 / 9, 1 / 3, 1.0)  # of the log's rows, by round
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
    budget = _budget(latency_ms, memory_mib)
    study = Study(config, grid, budget, candidates, data, assignments or [])
    experiment, changes = study.experiment()
    check_installed()  # what measures the students, which is after an hour of training, say
    for name, why in study.not_tried.items():
        print_line(f"not tried: {name}: {why}")
    root = out or Path("runs") / experiment.name
    log = rows_of(study, experiment, root / "log")
    rounds = _rounds(study, [*changes], log, root)
    choice = _choice(study, experiment.name, rounds)
    write_choice(choice, root)
    text, typed = chosen_yaml(study, choice, log[0], root)
    write_atomic(text, root / CHOSEN)
    _print(choice)
    print_line(f"choice: {root / 'choice.html'}")
    for line in typed:
        print_line(line)
    return choice


class _Rounds(NamedTuple):
    """Every student as of its last round, the recipe's steps as of its last one, the last round's scores, and how many
    samples each round learned from.
    """

    found: dict[str, Tried]
    steps: list[Step]
    summary: Summary
    rows: list[int]


def _budget(latency_ms: float | None, memory_mib: float | None) -> Budget:
    for name, value in (("--latency-ms", latency_ms), ("--memory-mb", memory_mib)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} {value:g}: give a number above 0, or leave it out for any")
    return Budget(latency_ms=latency_ms, memory_mib=memory_mib)


def parts_of(rows: int, read: int) -> list[tuple[int, int | None]]:
    """Return per round of a log of `rows` samples, which are made of `read` rows, (how many samples it has, about so
    many where they are others, how many rows are read for it, None for all).
    """
    shares = [share for share in SHARES if share == 1 or rows * share >= MIN_ROWS]
    return [(int(rows * share), None if share == 1 else int(read * share)) for share in shares]


def _rounds(study: Study, names: list[str], log: tuple[int, int], root: Path) -> _Rounds:
    """Return every round; log: its samples, and the rows that are read for them."""
    found, steps, ends = dict[str, Tried](), list[Step](), list[int]()
    for number, (part, limit) in enumerate(parts_of(*log), 1):
        print_line(f"round {number}: {len(names)} students, {part:,} of {log[0]:,} rows")
        last = limit is None
        tried, summary = _round(study, names, part, limit, _folder(root, number, names))
        ends.append(tried[0].rows)
        if both := study.recipe_of(names):
            by_name = {one.name: one for one in tried}
            steps = recipe_steps(*(by_name[name] for name in both))
        within = [one for one in tried if one.exceeds(study.budget) is None]
        if not within:
            why = nearest(tried, study.budget)
            raise UserError(f"{study.config}: {why}; raise the budget, or name others in a --grid with another --out")
        names = [one.name for one in within] if last else going_on(within)
        found |= {one.name: _left(one, number, names, study.budget) for one in tried}
    return _Rounds(found, steps, summary, ends)


def _folder(root: Path, number: int, names: list[str]) -> Path:
    """Return a round's folder: the one where these students are, or a new one, as another budget lets others go on."""
    paths = (root / (f"round-{number}-{again}" if again > 1 else f"round-{number}") for again in count(1))
    return next(path for path in paths if _takes(RunFolder(path), names))


def _takes(run: RunFolder, names: list[str]) -> bool:
    return not run.exists or run.experiment().students.keys() == {*names}


def rows_of(study: Study, experiment: Experiment, folder: Path) -> tuple[int, int]:
    """Return (the samples of the log, which is read for it, the rows that they are made of): others, where negatives
    are drawn or rows are sampled.
    """
    with open_run(experiment, study.data, folder, trains=False) as run:
        ingest_stage(run, experiment, study.data)
        rows, data = len(SampleStore(run.store)), experiment.data
    made = data.negatives is not None or data.sampling != SamplingConfig()
    return rows, source_rows(data, study.data) if made else rows


def _round(study: Study, names: list[str], rows: int, limit: int | None, folder: Path) -> tuple[list[Tried], Summary]:
    """Return the students of one round of about `rows` samples, and its scores. limit: the rows that are read; None:
    all, and with every seed and control.
    """
    experiment, changes = study.of_round(names, rows, limit)
    with open_run(experiment, study.data, folder) as run:
        summary = run_stages(run, experiment, study.data)
        if limit is None:
            report_stage(run)
        metric, rows = primary_metric(summary), len(SampleStore(run.store))
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


def _choice(study: Study, name: str, rounds: _Rounds) -> Choice:
    found, steps, summary, rows = rounds
    metric = primary_metric(summary)
    finalists = [one for one in found.values() if one.left_out is None]
    chosen, reasons = recommended(finalists)
    if chosen.cost.whole is not None:
        reasons.append(f"{chosen.name} is served with rows of int8")
    reasons += reach(rows, summary.window.share or 0)
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
