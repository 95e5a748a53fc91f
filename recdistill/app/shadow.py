"""What a shadow predicted, into the predictions table, and compared there with what was served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.progress import print_line, printed
from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.evaluate.shadows import SERVED, SHADOW, compared
from recdistill.evaluate.summary import LABELS, Shadow, Summary, load, write_summary
from recdistill.report.page import write_report
from recdistill.runs.folder import RunFolder
from recdistill.serve.sample_ids import sample_of
from recdistill.serve.shadow import SPOOL
from recdistill.serve.spool import finished
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog

__all__ = ["shadow_stage", "with_shadows"]


def shadow_stage(run: Path, root: Path) -> None:
    """Take what a shadow of the folder of versions `root` scored into a run's predictions, each version as a model of
    its own, `shadow.vN` and `served.vN`; then score them on the samples that both predicted and whose label is known,
    print that, and put it into the summary and the report of a run that was scored before.
    """
    folder = RunFolder(run)
    experiment, log = folder.experiment(), PredictionLog.open(folder.predictions)
    for path in sorted((root / SPOOL).glob("*.jsonl")):
        with finished(path) as records:
            if records is None:
                print_line(f"{path.name}: still being written; left for the next time")
                continue
            _take(log, path, records)
            path.unlink()
    if not any(name.startswith((SHADOW, SERVED)) for name, *_ in log.models()):
        raise UserError(f"{root / SPOOL}: nothing there; serve with --shadow first")
    shadows = compared(EventLog.open(folder.tables / "events"), log, experiment)
    if not shadows:
        return print_line(f"none of them has a label of {log.tasks[0]} yet; run this again when there are some")
    _print(shadows)
    _published(folder, shadows)


def _take(log: PredictionLog, path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Append a file's predictions, once however often this is tried."""
    exported = {name: model for record in records for name, model in record.get("models", {}).items()}
    frames = {name: pl.concat(list(_frames(log, records, name))) for name in _names(records)}
    for name, rows in frames.items():
        whole = rows.unique("sample_id", keep="first", maintain_order=True)
        new = whole.join(log.scan().filter(model=name).select("sample_id").collect(), on="sample_id", how="anti")
        left = len(rows) - len(new)
        if len(new):
            version, writer = int(name.rpartition(".v")[2]), f"{name}@{path.name}"
            log.append(
                new,
                model=name,
                version=version,
                kind="prequential",
                writer=writer,
                sequence=0,
                metadata=_about(exported.get(name)),
                new_samples=True,
            )
        again = f"; {left:,} left out, which it had predicted already" if left else ""
        print_line(f"{name}: {len(new):,} predictions from {path.name}{again}")


def _about(exported: str | None) -> dict[str, str]:
    """Return what the commit says of the model that was exported, as light.distilled.s0, and of its seed."""
    if exported is None:
        return {}
    name, _, seed = exported.rpartition(".s")
    return {"exported": exported} | ({"seed": seed} if name and seed.isdecimal() else {})


def _names(records: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({name for record in records for name in record["logits"]})


def _frames(log: PredictionLog, records: Sequence[dict[str, Any]], name: str) -> Iterator[pl.DataFrame]:
    for record in records:
        of = record["logits"].get(name)
        if of is None:
            continue
        if missing := set(log.tasks) - set(of):
            raise UserError(f"{name}: predicts no {', '.join(sorted(missing))}, a task of the run; it is another log's")
        ids = np.array([sample_of(record["request"], item) for item in record["items"]], np.int64)
        logits = np.array([of[task] for task in log.tasks], np.float32).T
        yield log.rows_of(ids, np.full(len(ids), record["time"]), logits)


def _print(shadows: Sequence[Shadow]) -> None:
    """Print each shadow above the served version that it was held against, and what it gains, per metric."""
    for task in dict.fromkeys(one.task for one in shadows):
        mine = [one for one in shadows if one.task == task]
        names = mine[0].models["shadow"].metrics
        table = Table(task, "samples", *(LABELS[name] for name in names), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for one in mine:
            for name, model in ((one.shadow, one.models["shadow"]), (one.served, one.models["served"])):
                values = ("-" if value is None else f"{value:.4f}" for value in map(model.metric, names))
                table.add_row(name, f"{one.rows:,}", *values)
            table.add_row("gain", "", *(_gain(one, name) for name in names), end_section=True)
        printed(table)


def _gain(shadow: Shadow, metric: str) -> str:
    value, low, high = shadow.gains.get(metric, (None, None, None))
    if value is None or low is None or high is None:
        return ""
    return f"{value:+.4f} ({low:+.4f} ... {high:+.4f})"


def with_shadows(folder: RunFolder, experiment: Experiment, summary: Summary) -> Summary:
    """Return the summary with the run's shadows as the tables have them now."""
    found = compared(EventLog.open(folder.tables / "events"), PredictionLog.open(folder.predictions), experiment)
    return summary.model_copy(update={"shadows": found})


def _published(folder: RunFolder, shadows: list[Shadow]) -> None:
    """Let the summary and the report of a run that was scored have these shadows."""
    path = folder.root / "summary.json"
    if path.exists():
        summary = load(path).model_copy(update={"shadows": shadows})
        write_summary(summary, path)
        write_report(summary, folder.root / "report.html")
        print_line(f"report: {folder.root / 'report.html'}")
