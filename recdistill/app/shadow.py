"""What a shadow predicted, into the predictions table, and compared there with what was served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.progress import console, print_line
from recdistill.errors import UserError
from recdistill.evaluate import metrics
from recdistill.evaluate.window import load_window
from recdistill.runs.folder import RunFolder
from recdistill.serve.sample_ids import sample_of
from recdistill.serve.shadow import SPOOL
from recdistill.serve.spool import finished
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog

__all__ = ["shadow_stage"]

SHOWN = ("ne", "auc", "calibration")


def shadow_stage(run: Path, root: Path) -> None:
    """Take what a shadow of the folder of versions `root` scored into a run's predictions, each version as a model of
    its own, `shadow.vN` and `served.vN`; then print their scores on the samples that both predicted and whose label is
    known.
    """
    folder = RunFolder(run)
    folder.experiment()
    log, names = PredictionLog.open(folder.predictions), set[str]()
    for path in sorted((root / SPOOL).glob("*.jsonl")):
        with finished(path) as records:
            if records is None:
                print_line(f"{path.name}: still being written; left for the next time")
                continue
            names |= _take(log, path, records)
            path.unlink()
    known = {name for name, *_ in log.models() if name.startswith(("shadow.v", "served.v"))}
    if not known:
        raise UserError(f"{root / SPOOL}: nothing there; serve with --shadow first")
    _compare(folder, log, sorted(known))


def _take(log: PredictionLog, path: Path, records: Sequence[dict[str, Any]]) -> set[str]:
    """Append a file's predictions, once however often this is tried; return the models."""
    frames = {name: pl.concat(list(_frames(log, records, name))) for name in _names(records)}
    for name, rows in frames.items():
        whole = rows.unique("sample_id", keep="first", maintain_order=True)
        new = whole.join(log.scan().filter(model=name).select("sample_id").collect(), on="sample_id", how="anti")
        left = len(rows) - len(new)
        if len(new):
            version, writer = int(name.rpartition(".v")[2]), f"{name}@{path.name}"
            log.append(
                new, model=name, version=version, kind="prequential", writer=writer, sequence=0, new_samples=True
            )
        again = f"; {left:,} left out, which it had predicted already" if left else ""
        print_line(f"{name}: {len(new):,} predictions from {path.name}{again}")
    return set(frames)


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


def _compare(folder: RunFolder, log: PredictionLog, names: list[str]) -> None:
    """Print the models' scores of the first task, two by two where they predicted the same samples."""
    task = log.tasks[0]
    frame = load_window(
        EventLog.open(folder.tables / "events"), EventLog.open(folder.tables / "events").version, task, 0.0, "user"
    )
    table = Table("versions", "samples", "model", *(name.upper() for name in SHOWN), box=SIMPLE_HEAD)
    labels = frame.rows.select("sample_id", "label")
    for shadow in (name for name in names if name.startswith("shadow.")):
        for served in (name for name in names if name.startswith("served.")):
            both = labels
            for name in (shadow, served):
                mine = log.scan().filter(model=name).select("sample_id", pl.col(f"logit_{task}").alias(name)).collect()
                both = both.join(mine, on="sample_id")
            for name in (shadow, served) if len(both) else ():
                found = metrics.score(both["label"].to_numpy().astype(np.float64), both[name].to_numpy())
                values = ("-" if found.values[one] is None else f"{found.values[one]:.4f}" for one in SHOWN)
                table.add_row(f"{shadow}, {served}", f"{len(both):,}", name, *values)
    if not table.row_count:
        return print_line(f"none of them has a label of {task} yet; run this again when there are some")
    console.print(table)
