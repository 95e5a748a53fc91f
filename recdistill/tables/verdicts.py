"""The verdicts table: which of a teacher's rows students may learn from, which versions they may not, and which
teacher is active from when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import polars as pl

from recdistill.errors import UserError
from recdistill.storage.location import Location
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.delta.types import TIME
from recdistill.tables.validation import check_columns, check_times

__all__ = ["Verdict", "VerdictLog", "Verdicts"]

Verdict = Literal["approved", "quarantined", "revoked", "unquarantined", "active"]
FORMAT = "verdicts, revision 2"
COLUMNS: dict[str, pl.DataType] = {
    "model": pl.String(),
    "version": pl.Int32(),
    "rows": pl.Int64(),
    "verdict": pl.String(),
    "reason": pl.String(),
    "statistics": pl.String(),
    "from_time": TIME,
    "time": TIME,
}


class VerdictLog(DeltaLog):
    """One row per verdict about a model's version; the newest about a version counts.

    approved: students may learn from the first `rows` rows of this version, in the order of the predictions table.
    quarantined, revoked: from now on they may learn from none of the version's rows (found by the gate; by a person).
    unquarantined: a person lifts the quarantine. active: from samples of `from_time` on students learn from this model.
    """

    @classmethod
    def create(cls, path: Location) -> VerdictLog:
        """Make the table at `path`, or open the one there; UserError when that is of another revision."""
        cls._create(path, COLUMNS, FORMAT)
        return cls(path)

    @classmethod
    def open(cls, path: Location) -> VerdictLog:
        """Open an existing table; UserError when there is none, or one of another revision."""
        log = cls(path)
        if log.schema_text != FORMAT:
            raise UserError(
                f"{path}: its format is '{log.schema_text}', this recdistill reads '{FORMAT}'; start another run"
            )
        return log

    def append(self, rows: pl.DataFrame, *, writer: str, sequence: int, metadata: dict[str, str] | None = None) -> int:
        """Commit `rows`, as `row` makes them, once as (writer, sequence); return the table's version.

        Raises UserError, and writes nothing, for unknown columns and verdicts, changed types, and impossible times.
        """
        rows = check_columns(rows, COLUMNS, "verdicts")
        check_times(rows, "verdicts")
        wrong = rows.filter(~pl.col("verdict").is_in(get_args(Verdict)))
        if len(wrong):
            raise UserError(
                f"verdicts: column 'verdict': {wrong['verdict'][0]!r} is not one of {', '.join(get_args(Verdict))}"
            )
        return self._append(rows, writer, sequence, metadata or {}, lambda table: None)

    @staticmethod
    def row(
        model: str,
        version: int,
        verdict: Verdict,
        *,
        rows: int = 0,
        reason: str = "",
        statistics: str = "{}",
        from_time: datetime | None = None,
    ) -> pl.DataFrame:
        """Return one row for `append`, of this moment."""
        return pl.DataFrame(
            {
                "model": [model],
                "version": [version],
                "rows": [rows],
                "verdict": [verdict],
                "reason": [reason],
                "statistics": [statistics],
                "from_time": [from_time],
                "time": [datetime.now(UTC)],
            },
            schema=COLUMNS,
        )


@dataclass
class Verdicts:
    """All verdicts up to a version of the table, folded."""

    version: int = -1
    approved: dict[tuple[str, int], int] = field(default_factory=dict)  # rows
    bad: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)  # verdict and reason
    active_teacher_from: list[tuple[datetime, str]] = field(default_factory=list)

    def update(self, log: VerdictLog) -> bool:
        """Read what was committed since; return whether there was anything.

        The first time the table is read as it stands: old commits may be merged into others, or cut off.
        """
        before = self.version
        if before < 0:
            self.version = log.version
            for rows in log.batches(self.version):
                self._fold(rows)
        for commit in log.commits(self.version):
            self._fold(log.read(commit))
            self.version = commit.version
        return self.version > before

    def _fold(self, rows: pl.DataFrame) -> None:
        for row in rows.iter_rows(named=True):
            self._take(row["model"], row["version"], row["verdict"], row["rows"], row["reason"], row["from_time"])

    def _take(self, model: str, version: int, verdict: str, rows: int, reason: str, from_time: datetime | None) -> None:
        key = (model, version)
        if verdict == "approved":
            self.approved[key] = max(rows, self.approved.get(key, 0))
        elif verdict in ("quarantined", "revoked"):
            self.bad[key] = (verdict, reason)
        elif verdict == "unquarantined":
            self.bad.pop(key, None)
        elif from_time is not None:
            self.active_teacher_from.append((from_time, model))

    def usable_rows(self, model: str, version: int) -> int | None:
        """Return how many rows of a model's version students may learn from so far, the first ones; None: from none,
        for the version is quarantined or revoked.
        """
        key = (model, version)
        return None if key in self.bad else self.approved.get(key, 0)

    def revoked(self, learned_from: Mapping[str, Mapping[Any, int]]) -> list[str]:
        """Return TEACHER@VERSION of those of the versions (teacher -> version -> rows) that were revoked, in order."""
        return [
            f"{teacher}@{version}"
            for teacher, versions in sorted(learned_from.items())
            for version in sorted(map(int, versions))
            if self.bad.get((teacher, version), ("", ""))[0] == "revoked"
        ]

    def active_teacher(self, time: datetime, first: str) -> str:
        """Return the model whose signals count for a sample of `time`: the last made active by then, else `first`."""
        begun = [start for start in self.active_teacher_from if start[0] <= time]
        return max(begun, key=lambda start: start[0])[1] if begun else first
