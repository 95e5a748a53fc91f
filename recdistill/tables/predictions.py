"""The predictions table: what each model said, before it knew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import polars as pl
from deltalake import DeltaTable

from recdistill.tables.checks import check_columns, check_logits
from recdistill.tables.commit import DeltaLog
from recdistill.tables.follow import added_files, read_files
from recdistill.tables.schema import TIME

__all__ = ["Kind", "PredictionLog", "join_signals"]

Kind = Literal["prequential", "crossfit", "imported"]


class PredictionLog(DeltaLog):
    """One row per (model, version, sample): the raw logit of every task."""

    partitions = ("model", "date")

    @classmethod
    def _partition_types(cls) -> dict[str, pl.DataType]:
        return {"model": pl.String(), "date": pl.Date()}

    @classmethod
    def create(cls, path: Path, tasks: tuple[str, ...]) -> PredictionLog:
        """Make the table at `path`, or open an equal one; UserError when one of other tasks is there."""
        columns = cls._columns(tasks) | {"version": pl.Int32(), "kind": pl.String()}
        cls._create(path, columns, json.dumps({"tasks": tasks}))
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> PredictionLog:
        """Open an existing table; UserError when there is none."""
        return cls(path)

    @staticmethod
    def _columns(tasks: tuple[str, ...]) -> dict[str, pl.DataType]:
        return {"sample_id": pl.Int64(), "time": TIME, **{f"logit_{task}": pl.Float32() for task in tasks}}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that every row has a logit of."""
        return tuple(json.loads(self.about)["tasks"])

    def append(self, rows: pl.DataFrame, *, model: str, version: int, kind: Kind, writer: str, sequence: int,
               metadata: dict[str, str] | None = None) -> int:  # fmt: skip
        """Commit what `model` said at its published `version`, once as (writer, sequence); return the table's version.

        rows: sample_id, time, logit_<task>. `metadata` (config hash, keep rates) goes into the commit.
        Raises UserError, and writes nothing, for NaN or infinite logits and duplicate sample ids.
        """
        rows = check_columns(rows, self._columns(self.tasks), f"predictions of {model}")
        check_logits(rows, self.tasks, f"predictions of {model}")
        full = rows.with_columns(
            version=pl.lit(version, pl.Int32), kind=pl.lit(kind), model=pl.lit(model), date=pl.col("time").dt.date()
        )
        return self._append(full, writer, sequence, {"model": model, "version": str(version), **(metadata or {})})

    def of(
        self, model: str, version: int | None = None, columns: list[str] | None = None, rows: int = 65_536
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of `model` up to table `version` in commit order, at most `rows` at a time; memory O(batch)."""
        for _, files in added_files(self.path, -1, self.version if version is None else version):
            mine = [file for file in files if file[1]["model"] == model]
            yield from read_files(self.path, mine, columns, rows)

    def models(self) -> list[tuple[str, int, str, int]]:
        """Return (model, newest version, kind, rows) of every model that said something."""
        grouped = self.scan().group_by("model", "kind").agg(pl.col("version").max(), pl.len().alias("rows")).collect()
        return [(r["model"], r["version"], r["kind"], r["rows"]) for r in grouped.sort("model", "kind").to_dicts()]

    def lineage(self, model: str) -> list[dict[str, str]]:
        """Return the metadata of every commit of `model`, oldest first."""
        history = DeltaTable(str(self.path)).history()
        return [
            {key: str(value) for key, value in entry.items()}
            for entry in reversed(history)
            if entry.get("model") == model
        ]


def join_signals(batches: Iterable[pl.DataFrame], predictions: PredictionLog, model: str, *,
                 version: int | None = None) -> Iterator[pl.DataFrame]:  # fmt: skip
    """Yield each batch with `model`'s logits left-joined by sample_id, null where it said nothing.

    Only the dates of the batch are read, so memory is O(batch + its dates' rows).
    """
    said = predictions.scan(version, ["sample_id", "model", "date", *(f"logit_{task}" for task in predictions.tasks)])
    mine = said.filter(pl.col("model") == model)
    dates: list[object] = []
    near = pl.DataFrame()
    for batch in batches:
        wanted = batch["time"].dt.date().unique().sort().to_list()
        if wanted != dates:
            dates, near = wanted, mine.filter(pl.col("date").is_in(wanted)).drop("model", "date").collect()
        yield batch.join(near, on="sample_id", how="left", maintain_order="left")
