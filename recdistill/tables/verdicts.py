"""The verdicts table: which of a teacher's rows students may hear, which versions they may not, and whose
turn it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl

from recdistill.errors import UserError
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.delta.types import TIME
from recdistill.tables.validation import check_columns, check_times

__all__ = ["Verdict", "VerdictLog", "Verdicts"]

Verdict = Literal["good", "quarantined", "revoked", "released", "active"]
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

    good: the first `rows` rows that this version said, in the order of the predictions table, may be heard.
    quarantined, revoked: none of the version's rows may be heard from now on (found by the gate, told by a person).
    released: a person lifts the quarantine. active: from samples of `from_time` on students hear this model.
    """

    @classmethod
    def create(cls, path: Path) -> VerdictLog:
        """Make the table at `path`, or open the one there."""
        cls._create(path, COLUMNS, "verdicts")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> VerdictLog:
        """Open an existing table; UserError when there is none."""
        return cls(path)

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
        return self._append(
            rows.with_columns(date=pl.col("time").dt.date()), writer, sequence, metadata or {}, lambda table: None
        )

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
    cleared: dict[tuple[str, int], int] = field(default_factory=dict)
    bad: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)  # verdict and reason
    turns: list[tuple[datetime, str]] = field(default_factory=list)

    def update(self, log: VerdictLog) -> bool:
        """Take up what was committed since; return whether there was anything.

        The first time the table is read as it stands: files of old commits are long merged into others, and the log was
        cut.
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
        if verdict == "good":
            self.cleared[key] = max(rows, self.cleared.get(key, 0))
        elif verdict in ("quarantined", "revoked"):
            self.bad[key] = (verdict, reason)
        elif verdict == "released":
            self.bad.pop(key, None)
        elif from_time is not None:
            self.turns.append((from_time, model))

    def may_hear(self, model: str, version: int, row: int) -> bool | None:
        """Return whether students may hear the `row`-th row (from 0) of a model's version; None: not judged yet."""
        if (model, version) in self.bad:
            return False
        return True if row < self.cleared.get((model, version), 0) else None

    def revoked(self, heard: Mapping[str, Mapping[Any, int]]) -> list[str]:
        """Return TEACHER@VERSION of those of the heard versions (teacher -> version -> rows) that were
        revoked, in order.
        """
        return [
            f"{teacher}@{version}"
            for teacher, versions in sorted(heard.items())
            for version in sorted(map(int, versions))
            if self.bad.get((teacher, version), ("", ""))[0] == "revoked"
        ]

    def active(self, time: datetime, first: str) -> str:
        """Return the model to hear about a sample of `time`: the last whose turn began by then, else `first`."""
        begun = [turn for turn in self.turns if turn[0] <= time]
        return max(begun, key=lambda turn: turn[0])[1] if begun else first
