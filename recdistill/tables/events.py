"""The events table, what happened; and the behaviors table, what users did besides the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from recdistill.errors import UserError
from recdistill.tables.checks import check_columns, check_events
from recdistill.tables.commit import DeltaLog
from recdistill.tables.schema import POLARS_TYPES, TIME, EventSchema

__all__ = ["BehaviorLog", "EventLog"]


def _dated(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(date=pl.col("time").dt.date())


class EventLog(DeltaLog):
    """Samples with their features and labels: append-only, each sample id once for ever."""

    @classmethod
    def create(cls, path: Path, schema: EventSchema) -> EventLog:
        """Make the table at `path`, or open an equal one; UserError when one of another schema is there."""
        cls._create(path, schema.columns(), schema.to_json())
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> EventLog:
        """Open an existing table; UserError when there is none."""
        return cls(path)

    @property
    def schema(self) -> EventSchema:
        """Return the schema the table was made with."""
        return EventSchema.from_json(self.about)

    def append(self, rows: pl.DataFrame, *, writer: str, sequence: int, source: str = "rows") -> int:
        """Commit `rows` once as (writer, sequence); return the table's version.

        Raises UserError, and writes nothing, for anything the checks refuse, and for a sample id the table already
        has, whether with the same label or another.
        """
        rows = check_columns(rows, self.schema.columns(), source)
        check_events(rows, self.schema.tasks, source)
        if self.last_sequence(writer) < sequence:
            self._refuse_known(rows, source)
        return self._append(_dated(rows), writer, sequence, {})

    def _refuse_known(self, rows: pl.DataFrame, source: str) -> None:
        """Refuse sample ids already in the table; Parquet statistics leave out the files that cannot hold them."""
        low, high = rows["sample_id"].min(), rows["sample_id"].max()
        old = self.scan(columns=["sample_id", *(f"label_{task}" for task in self.schema.tasks)])
        near = old.filter(pl.col("sample_id").is_between(pl.lit(low), pl.lit(high)))
        known = near.join(rows.lazy().select("sample_id"), on="sample_id", how="semi").head(1).collect()
        if not len(known):
            return
        sample = int(known["sample_id"][0])
        new = rows.filter(pl.col("sample_id") == sample).select(known.columns)
        what = "is in the table already" if new.equals(known) else "is in the table with another label"
        raise UserError(f"{source}: column 'sample_id': {sample} {what}")


class BehaviorLog(DeltaLog):
    """Actions: user_id, item_id, time, action; histories are gathered from them."""

    @classmethod
    def create(cls, path: Path, schema: EventSchema) -> BehaviorLog:
        """Make the table at `path` with the id types of the samples' `schema`, or open an equal one."""
        about = replace(schema, tasks=(), features={}, label_times=(), keep_rates={}, has_request=False)
        cls._create(path, cls._columns(about), about.to_json())
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> BehaviorLog:
        """Open an existing table; UserError when there is none."""
        return cls(path)

    @staticmethod
    def _columns(schema: EventSchema) -> dict[str, pl.DataType]:
        return {
            "user_id": POLARS_TYPES[schema.user_id],
            "item_id": POLARS_TYPES[schema.item_id],
            "time": TIME,
            "action": pl.String(),
        }

    def append(self, rows: pl.DataFrame, *, writer: str, sequence: int, source: str = "rows") -> int:
        """Commit `rows` once as (writer, sequence); return the table's version."""
        rows = check_columns(rows, self._columns(EventSchema.from_json(self.about)), source)
        return self._append(_dated(rows), writer, sequence, {})
