"""The events table: what happened; the behaviors table: what users did besides; the outcomes table: labels that became
known later.
"""

from __future__ import annotations

import json

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from recdistill.errors import UserError
from recdistill.storage.location import Location
from recdistill.tables.delta.commits import parts_of
from recdistill.tables.delta.existing_ids import first_known
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.delta.types import TIME
from recdistill.tables.schema import POLARS_TYPES, EventSchema
from recdistill.tables.validation import check_behaviors, check_columns, check_events, check_outcomes, check_vectors

__all__ = ["BehaviorLog", "EventLog", "OutcomeLog"]


class EventLog(DeltaLog):
    """Samples with their features and labels: append-only, each sample id once for ever."""

    @classmethod
    def create(cls, path: Location, schema: EventSchema) -> EventLog:
        """Make the table at `path`, or open an equal one; UserError when one of another schema is there."""
        cls._create(path, schema.columns(), schema.to_json())
        return cls(path)

    @classmethod
    def open(cls, path: Location) -> EventLog:
        """Open an existing table; UserError when there is none."""
        return cls(path)

    @property
    def schema(self) -> EventSchema:
        """Return the schema the table was made with."""
        return EventSchema.from_json(self.schema_text)

    def append(
        self,
        rows: pl.DataFrame,
        *,
        writer: str,
        sequence: int,
        source: str = "rows",
        new_ids: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> int:
        """Commit `rows` once as (writer, sequence); return the table's version. `metadata` goes into the commit.

        new_ids: the caller has made sure that the table holds none of these sample ids; else all that may be near are
        read. Raises UserError, and writes nothing, for anything the checks refuse, and for a sample id the table
        already has, whether with the same label or another.
        """
        rows = self._checked(rows, source)

        def check(table: DeltaTable) -> None:
            if not new_ids:
                self._refuse_known(table, rows, source)

        return self._append(rows, writer, sequence, metadata or {}, check)

    def stage(self, rows: pl.DataFrame, name: str, source: str = "rows") -> list[AddAction]:
        """Write `rows` for a commit of many parts, in place of what is staged under this name; see `commit_staged`.

        Raises UserError, and writes nothing, for what the checks of one append refuse.
        """
        return self._staged(self._checked(rows, source), name)

    def _checked(self, rows: pl.DataFrame, source: str) -> pl.DataFrame:
        rows = check_columns(rows, self.schema.columns(), source)
        check_events(rows, self.schema, source)
        check_vectors(rows, self.schema.row_vector_widths, source)
        return rows

    def _refuse_known(self, table: DeltaTable, rows: pl.DataFrame, source: str) -> None:
        """Refuse sample ids already in the table."""
        labels = [f"label_{task}" for task in self.schema.tasks]
        found = first_known(self, parts_of(table), rows["sample_id"], labels, pl.lit(True))
        if found:
            new = rows.row(by_predicate=pl.col("sample_id") == found["sample_id"], named=True)
            same = all(new[label] == found[label] for label in labels)
            what = "is in the table already" if same else "is in the table with another label"
            raise UserError(f"{source}: column 'sample_id': {found['sample_id']} {what}")


class BehaviorLog(DeltaLog):
    """Actions: user_id, item_id, time, action; histories are gathered from them."""

    @classmethod
    def create(cls, path: Location, schema: EventSchema) -> BehaviorLog:
        """Make the table at `path` with the id types of the samples' `schema`, or open an equal one."""
        about = EventSchema((), user_id=schema.user_id, item_id=schema.item_id)
        cls._create(path, cls._columns(about), about.to_json())
        return cls(path)

    @classmethod
    def open(cls, path: Location) -> BehaviorLog:
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

    def append(
        self,
        rows: pl.DataFrame,
        *,
        writer: str,
        sequence: int,
        source: str = "rows",
        metadata: dict[str, str] | None = None,
    ) -> int:
        """Commit `rows` once as (writer, sequence); return the table's version. `metadata` goes into the commit.

        Raises UserError, and writes nothing, for unknown columns, changed types, empty cells and times in the future.
        """
        rows = check_columns(rows, self._columns(EventSchema.from_json(self.schema_text)), source)
        check_behaviors(rows, source)
        return self._append(rows, writer, sequence, metadata or {}, lambda table: None)


class OutcomeLog(DeltaLog):
    """Labels that became known after their samples: sample_id, task, label (0 or 1), time when it became known."""

    @classmethod
    def create(cls, path: Location, schema: EventSchema) -> OutcomeLog:
        """Make the table at `path` for the tasks of the samples' `schema`, or open an equal one."""
        cls._create(path, cls._columns(), json.dumps({"tasks": schema.tasks}))
        return cls(path)

    @classmethod
    def open(cls, path: Location) -> OutcomeLog:
        """Open an existing table; UserError when there is none."""
        return cls(path)

    @staticmethod
    def _columns() -> dict[str, pl.DataType]:
        return {"sample_id": pl.Int64(), "task": pl.String(), "label": pl.Float32(), "time": TIME}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks whose labels the table takes."""
        return tuple(json.loads(self.schema_text)["tasks"])

    def append(
        self,
        rows: pl.DataFrame,
        *,
        writer: str,
        sequence: int,
        source: str = "rows",
        metadata: dict[str, str] | None = None,
    ) -> int:
        """Commit `rows` once as (writer, sequence); return the table's version. `metadata` goes into the commit.

        A sample may have several outcomes (a negative, then a late positive). Raises UserError, and writes nothing, for
        unknown columns and tasks, changed types, empty cells, labels that are neither 0 nor 1, and times in the future.
        """
        rows = check_columns(rows, self._columns(), source)
        check_outcomes(rows, self.tasks, source)
        return self._append(rows, writer, sequence, metadata or {}, lambda table: None)
