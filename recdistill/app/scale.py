"""The stage behind `recdistill scale`: one model in several sizes over seeds, from labels alone, as one run
that resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.progress import console
from recdistill.app.results import publish_files
from recdistill.app.run import ingest_stage, open_run, train_alone
from recdistill.config.experiment import Experiment
from recdistill.config.sweep import Sized, load_sweep
from recdistill.data.batch.extras import extras_of
from recdistill.data.store.encoder import field_counts
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.evaluate.model_facts import log_odds_offset_of
from recdistill.evaluate.scaling_laws import Scaling, Value, measured, scaling_of
from recdistill.evaluate.transferability import draw_all
from recdistill.evaluate.window import load_window, logits_of
from recdistill.models.flops import cost_of
from recdistill.report.scaling import write_scaling
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, pairs_of
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from recdistill.train.memory_check import countable

__all__ = ["scale"]


def scale(
    config: Path,
    sweep: Path | None,
    axes: list[str],
    data: Path | None,
    out: Path | None,
    assignments: list[str] | None,
) -> None:
    """Train every size, and write scale.json and scale.html."""
    experiment, sizes = load_sweep(config, sweep, axes, assignments)
    task = next(iter(experiment.data.columns.tasks))
    if task in experiment.data.columns.regression:
        raise UserError(f"scale fits NE, AUC and GAUC, and the first task '{task}' is a regression; put another first")
    with open_run(experiment, data, out) as folder:
        ingest_stage(folder, experiment, data)
        jobs = {name: [raw for raw, _ in pairs] for name, pairs in pairs_of(experiment).items()}
        train_alone(folder, experiment, list({job.name: job for seeds in jobs.values() for job in seeds}.values()))
        with console.status("scoring"):
            found = _scored(folder, experiment, sizes, jobs)
        write_scaling(found, folder.here)
        publish_files(folder, experiment, [folder.here / "scale.html", folder.here / "scale.json"], console.print)
        _print(found)
        console.print(f"scaling: {folder.here / 'scale.html'}", soft_wrap=True)


def _scored(folder: RunFolder, experiment: Experiment, sizes: dict[str, Sized], jobs: dict[str, list[Job]]) -> Scaling:
    events, predictions = EventLog.open(folder.tables / "events"), PredictionLog.open(folder.predictions)
    task, settings, store = events.schema.tasks[0], experiment.evaluate, SampleStore(folder.store)
    frame = load_window(events, events.version, task, settings.start, settings.group)
    logits_by_name: dict[str, Any] = {}
    for job in (job for seeds in jobs.values() for job in seeds):
        if job.name not in logits_by_name:
            logits_by_name[job.name] = logits_of(
                predictions, predictions.version, job.name, task, frame.ids, log_odds_offset_of(job.config)
            )
    drawn = draw_all(frame.samples.users, 1, len(settings.seeds), settings.bootstrap)
    logits = [[logits_by_name[job.name] for job in seeds] for seeds in jobs.values()]
    values, met_first = measured(frame.samples, logits, drawn), frame.rows["new_item"].to_numpy()
    part = frame.samples.where(met_first)
    both = 0 < part.label.sum() < len(part.label)
    new = measured(part, [[one[met_first] for one in seeds] for seeds in logits], drawn) if both else None
    facts = {name: _facts(folder, experiment, sizes[name], name, seeds[0], store) for name, seeds in jobs.items()}
    return scaling_of(experiment.name, len(frame.ids), settings.seeds, settings.confidence, facts, values, new)


def _facts(
    folder: RunFolder, experiment: Experiment, sized: Sized, name: str, job: Job, store: SampleStore
) -> dict[str, Any]:
    """Return a size's keys but for its metrics; data counts in rows, what has no number of its own in dense
    parameters.
    """
    costs = build.training_costs(folder, experiment, job)
    x = sized.x
    if "sampling" in sized.changes and x is not None:
        x *= len(store)
    elif x is None and "kind" not in sized.changes:
        x = float(costs.dense_parameters or 0)
    schema = EventLog.open(folder.tables / "events").schema
    config = experiment.students[name]
    flops = cost_of(
        countable(config, *field_counts(schema), store.actions, extras_of(schema)), config.history
    ).forward_flops
    return {
        "axis": sized.axis,
        "x": x,
        "changes": sized.changes,
        "dense_parameters": costs.dense_parameters,
        "flops": flops,
        "rows_per_second": costs.rows_per_second,
    }


def _print(found: Scaling) -> None:
    table = Table(
        "size",
        "GAUC",
        "AUC",
        "NE",
        "better by",
        "NE, new items",
        "dense",
        "MFLOP/row",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for size in found.sizes:
        gain = "" if size.gain is None else _cell(size.gain, "+.4f")
        table.add_row(
            size.name,
            *(_one(part) for part in (size.gauc, size.auc, size.ne)),
            gain,
            "-" if size.ne_new_items is None else _one(size.ne_new_items),
            f"{size.dense_parameters or 0:,}",
            f"{(size.flops or 0) / 1e6:,.3f}",
        )
    console.print(table)
    for law in found.laws:
        formula = f"NE = {_cell(law.floor)} + {_cell(law.factor)} (x / {law.first:g})^-a, a = {_cell(law.exponent)}"
        console.print(f"{law.axis}: {formula}; {law.in_words}", soft_wrap=True)
    for axis, why in found.no_law.items():
        console.print(f"{axis}: no law: {why}", soft_wrap=True)


def _one(part: Value) -> str:
    return "-" if part.value is None else f"{part.value:.4f}"


def _cell(one: Value, form: str = ".4f") -> str:
    if one.value is None:
        return "-"
    return format(one.value, form) + (
        "" if one.low is None or one.high is None else f" ({one.low:{form}} ... {one.high:{form}})"
    )
