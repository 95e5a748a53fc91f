"""The dead letters: messages and rows that could not be taken, each with its reason, to be mended and sent again."""

from __future__ import annotations

import polars as pl

from recdistill.storage.location import Location
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.delta.types import TIME
from recdistill.tables.validation import check_columns, check_times

__all__ = ["COLUMNS", "MAX_PAYLOAD", "DeadLetters"]

MAX_PAYLOAD = 1 << 20  # bytes
COLUMNS: dict[str, pl.DataType] = {
    "time": TIME,
    "source": pl.String(),
    "kind": pl.String(),
    "position": pl.Int64(),
    "reason": pl.String(),
    "rows": pl.Int64(),
    "payload": pl.Binary(),
}


class DeadLetters(DeltaLog):
    """One row per message and reason.

    time: of arrival; source: partition of the channel, position: of the message in it; kind: of table it was for; rows:
    how many rows are meant; payload: these rows as an Arrow IPC stream, or the start of what cannot be read (at most
    MAX_PAYLOAD bytes).
    """

    @classmethod
    def create(cls, path: Location) -> DeadLetters:
        """Make the table at `path`, or open the one there."""
        cls._create(path, COLUMNS, "dead letters")
        return cls(path)

    @classmethod
    def open(cls, path: Location) -> DeadLetters:
        """Open an existing table; UserError when there is none."""
        return cls(path)

    def append(self, rows: pl.DataFrame, *, writer: str, sequence: int, metadata: dict[str, str] | None = None) -> int:
        """Commit `rows` (COLUMNS) once as (writer, sequence); return the table's version.

        Raises UserError, and writes nothing, for unknown columns, changed types, and impossible times.
        """
        rows = check_columns(rows, COLUMNS, "dead letters").with_columns(pl.col("payload").bin.head(MAX_PAYLOAD))
        check_times(rows, "dead letters")
        return self._append(rows, writer, sequence, metadata or {}, lambda table: None)
