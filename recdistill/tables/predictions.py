"""The predictions table: what each model predicted, before it knew the labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from recdistill.errors import UserError
from recdistill.storage.location import Location
from recdistill.tables.delta.commits import commits_back, kept_commits, parts_of
from recdistill.tables.delta.existing_ids import first_known
from recdistill.tables.delta.files import Part, ahead, gathered, read_parts
from recdistill.tables.delta.fixed_bytes import to_bytes
from recdistill.tables.delta.log import CHUNK, DeltaLog
from recdistill.tables.delta.types import TIME
from recdistill.tables.validation import check_channels, check_columns, check_logits
from recdistill.typing import Array

__all__ = ["Kind", "PredictionLog"]

Kind = Literal["prequential", "crossfit", "imported", "backfill"]


class PredictionLog(DeltaLog):
    """One row per (model, version, sample): the raw logit of every task, and on further channels what else students may
    learn from.

    A channel is a binary column, so many bytes in every row of the models that write it, null in all others.
    """

    partitions = ("model",)

    @classmethod
    def create(cls, path: Location, tasks: tuple[str, ...], channels: Mapping[str, int] | None = None) -> PredictionLog:
        """Make the table at `path`, or open an equal one; UserError when one of other tasks or channels is there.

        channels: name -> bytes per row.
        """
        columns = cls._columns(tasks, tuple(channels or ())) | {"version": pl.Int32(), "kind": pl.String()}
        cls._create(path, columns, json.dumps({"tasks": tasks} | ({"channels": dict(channels)} if channels else {})))
        return cls(path)

    @classmethod
    def open(cls, path: Location) -> PredictionLog:
        """Open an existing table; UserError when there is none."""
        return cls(path)

    @staticmethod
    def _columns(tasks: tuple[str, ...], channels: tuple[str, ...]) -> dict[str, pl.DataType]:
        logits: dict[str, pl.DataType] = {f"logit_{task}": pl.Float32() for task in tasks}
        return {"sample_id": pl.Int64(), "time": TIME, **logits, **{name: pl.Binary() for name in channels}}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that every row has a logit of."""
        return tuple(json.loads(self.schema_text)["tasks"])

    @property
    def channels(self) -> dict[str, int]:
        """Return the bytes per row of each channel."""
        return dict(json.loads(self.schema_text).get("channels", {}))

    def rows_of(
        self, sample_id: Array, time: Array, logits: Array, channels: Mapping[str, Array] | None = None
    ) -> pl.DataFrame:
        """Return rows for `append`: int64 [n] ids, int64 [n] times of the samples in us, float32 [n, K] logits.

        channels: arrays of n rows of that channel's bytes, of any type and shape; those left out stay empty.
        """
        logits_of_task = {f"logit_{task}": logits[:, k] for k, task in enumerate(self.tasks)}
        given = {name: to_bytes(values) for name, values in (channels or {}).items()}
        rest = {
            name: pl.Series([None], dtype=pl.Binary).new_from_index(0, len(sample_id))
            for name in self.channels
            if name not in given
        }
        return pl.DataFrame(
            {"sample_id": sample_id, "time": pl.Series(time).cast(TIME), **logits_of_task, **given, **rest}
        )

    def append(
        self,
        rows: pl.DataFrame,
        *,
        model: str,
        version: int,
        kind: Kind,
        writer: str,
        sequence: int,
        metadata: dict[str, str] | None = None,
        new_samples: bool = False,
    ) -> int:
        """Commit the predictions of `model` at its published `version`, once as (writer, sequence); return the table's
        version.

        rows: sample_id, time (the sample's own), logit_<task>, and the table's channels (see `rows_of`). `metadata`
        (config hash, keep rates) goes into the commit. new_samples: the caller has made sure that the model has
        recorded none of these before; else files of their times are read. Raises UserError, and writes nothing, for NaN
        or infinite logits, duplicate sample ids, and samples that this version has recorded; a prequential prediction
        is made once, whatever the version.
        """
        full = self._checked(rows, model, version, kind)
        same = pl.col("kind") == kind
        again = same if kind == "prequential" else same & (pl.col("version") == version)

        def check(table: DeltaTable) -> None:
            if not new_samples:
                self._refuse_again(table, full, model, again)

        return self._append(
            full, writer, sequence, {"model": model, "model_version": str(version), **(metadata or {})}, check
        )

    def stage(self, rows: pl.DataFrame, name: str, *, model: str, version: int, kind: Kind) -> list[AddAction]:
        """Write predictions for a commit of many parts, in place of what is staged under this name; see
        `commit_staged`. Raises UserError, and writes nothing, for what the checks of one append refuse.
        """
        return self._staged(self._checked(rows, model, version, kind), name)

    def _checked(self, rows: pl.DataFrame, model: str, version: int, kind: Kind) -> pl.DataFrame:
        source = f"predictions of {model}"
        if not model:
            raise UserError("predictions need the name of their model; got ''")
        rows = check_columns(rows, self._columns(self.tasks, tuple(self.channels)), source)
        check_logits(rows, self.tasks, source)
        check_channels(rows, self.channels, source)
        return rows.with_columns(version=pl.lit(version, pl.Int32), kind=pl.lit(kind), model=pl.lit(model))

    def _refuse_again(self, table: DeltaTable, rows: pl.DataFrame, model: str, again: pl.Expr) -> None:
        """Refuse samples that the model has recorded before, of the rows where `again` holds; only files of
        these times are looked at.
        """
        if not len(rows):
            return
        times = rows["time"].to_physical().to_numpy()
        mine = [
            part
            for part in parts_of(table)
            if part.partition["model"] == model and part.may_hold_times(times.min(), times.max())
        ]
        found = first_known(self, mine, rows["sample_id"], ["version", "kind"], again)
        if found:
            raise UserError(
                f"predictions of {model}: column 'sample_id': {found['sample_id']} has a {found['kind']} prediction "
                f"of version {found['version']} already; give another run another model name"
            )

    def of(
        self, model: str, version: int | None = None, columns: list[str] | None = None, rows: int = CHUNK
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of `model` at table `version` in commit order, at most `rows` at a time; memory O(batch)."""
        yield from self.of_files(self.files_of(model, version), columns, rows)

    def files_of(self, model: str, version: int | None = None) -> list[Part]:
        """Return the files with the rows of `model` at table `version`, in commit order."""
        return [part for part in self.parts(version) if part.partition["model"] == model]

    def of_files(
        self, files: Sequence[Part], columns: list[str] | None = None, rows: int = CHUNK
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of some files, at most `rows` at a time; memory O(batch)."""
        yield from ahead(gathered(read_parts(self.path, files, self._typed(columns), rows), rows))

    def models(self) -> list[tuple[str, int, str, int]]:
        """Return (model, newest version, kind, rows) of every model that has recorded any."""
        grouped = self.collect(
            self.scan().group_by("model", "kind").agg(pl.col("version").max(), pl.len().alias("rows"))
        )
        return [(r["model"], r["version"], r["kind"], r["rows"]) for r in grouped.sort("model", "kind").to_dicts()]

    def newest_metadata(self, model: str) -> dict[str, str] | None:
        """Return the metadata of the newest commit of `model`, None when it made none that is kept; reads
        back from the newest.
        """
        return next(
            (
                commit.metadata
                for commit in commits_back(self.path, self.version)
                if commit.metadata.get("model") == model
            ),
            None,
        )

    def lineage(self, model: str) -> list[dict[str, str]]:
        """Return the metadata of every commit of `model`, oldest first; `version` is the table's,
        `model_version` the model's.
        """
        return [
            commit.metadata | {"version": str(commit.version)}
            for commit in kept_commits(self.path)
            if commit.metadata.get("model") == model
        ]
