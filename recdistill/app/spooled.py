"""What a server wrote of its versions' predictions, into a run's predictions table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.app.progress import print_line
from recdistill.errors import UserError
from recdistill.serve.sample_ids import sample_of
from recdistill.serve.spool import finished
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.validation import SKEW

__all__ = ["take_spool"]


def take_spool(log: PredictionLog, folder: Path) -> None:
    """Take the files of a folder that nobody writes to, each version as a model of its own; each is removed once it is
    there. UserError, once all others are taken, where a version predicts other tasks than the run; its file stays.
    """
    foreign = list[UserError]()
    for path in sorted(folder.glob("*.jsonl")):
        with finished(path) as records:
            if records is None:
                print_line(f"{path.name}: still being written; left for the next time")
                continue
            try:
                _take(log, path, records)
            except UserError as error:
                foreign.append(UserError(f"{path.name}: {error}"))
                continue
            path.unlink()
    if foreign:
        raise foreign[0]


def _take(log: PredictionLog, path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Append a file's predictions, once however often this is tried; without those of times in the future."""
    exported = {name: model for record in records for name, model in record.get("models", {}).items()}
    frames = {name: pl.concat(list(_frames(log, records, name))) for name in _names(records)}
    for name, rows in frames.items():
        past = rows.filter(pl.col("time") <= pl.lit(datetime.now(UTC) + SKEW))  # what the table would refuse
        whole = past.unique("sample_id", keep="first", maintain_order=True)
        new = whole.join(log.scan().filter(model=name).select("sample_id").collect(), on="sample_id", how="anti")
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
        again = _left_out(len(past) - len(new), "which it had predicted already")
        ahead = _left_out(len(rows) - len(past), "whose time lies in the future")
        print_line(f"{name}: {len(new):,} predictions from {path.name}{again}{ahead}")


def _left_out(count: int, why: str) -> str:
    return f"; {count:,} left out, {why}" if count else ""


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
