"""Verdicts folded: the newest about a version counts, and which teacher is active when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.tables.verdicts import COLUMNS, VerdictLog, Verdicts

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> VerdictLog:
    return VerdictLog.create(tmp_path / "verdicts")


def add(log: VerdictLog, model: str, version: int, verdict: Any, **more: Any) -> None:
    """Commit one verdict."""
    log.append(VerdictLog.row(model, version, verdict, **more), writer="w", sequence=log.last_sequence("w") + 1)


def folded(log: VerdictLog) -> Verdicts:
    """Return all verdicts."""
    found = Verdicts()
    found.update(log)
    return found


def test_rows_are_usable_as_far_as_they_were_judged(log: VerdictLog) -> None:
    add(log, "teacher", 1, "approved", rows=200)
    add(log, "teacher", 1, "approved", rows=100)  # an older one, again
    found = folded(log)
    assert found.usable_rows("teacher", 1) == 200
    assert found.usable_rows("teacher", 2) == 0 and found.usable_rows("teacher-b", 1) == 0


@pytest.mark.parametrize("verdict", ["quarantined", "revoked"])
def test_no_row_of_a_bad_version_is_usable_until_it_is_unquarantined(log: VerdictLog, verdict: str) -> None:
    add(log, "teacher", 1, "approved", rows=200)
    add(log, "teacher", 1, verdict, reason="why")
    add(log, "teacher", 1, "approved", rows=400)  # too late
    assert folded(log).usable_rows("teacher", 1) is None
    assert folded(log).bad == {("teacher", 1): (verdict, "why")}
    assert folded(log).usable_rows("teacher", 2) == 0
    add(log, "teacher", 1, "unquarantined")
    assert folded(log).usable_rows("teacher", 1) == 400


def test_one_commit_may_unquarantine_and_approve(log: VerdictLog) -> None:
    add(log, "teacher", 1, "quarantined")
    rows = [VerdictLog.row("teacher", 1, "unquarantined"), VerdictLog.row("teacher", 1, "approved", rows=2**62)]
    log.append(pl.concat(rows), writer="operator", sequence=0)
    assert folded(log).usable_rows("teacher", 1) == 2**62


def test_the_teacher_last_made_active_counts(log: VerdictLog) -> None:
    add(log, "teacher-c", 1, "active", from_time=NOON + timedelta(hours=2))
    add(log, "teacher-b", 1, "active", from_time=NOON)
    found = folded(log)
    hours = [found.active_teacher(NOON + timedelta(hours=h), "teacher") for h in (-1, 0, 1, 2, 3)]
    assert hours == ["teacher", "teacher-b", "teacher-b", "teacher-c", "teacher-c"]


def test_update_reads_what_is_new_alone(log: VerdictLog) -> None:
    found = Verdicts()
    found.update(log)
    assert found.update(log) is False
    add(log, "teacher", 1, "approved", rows=5)
    assert found.update(log) is True and found.approved == {("teacher", 1): 5} and found.version == log.version
    log.mark("gate", 0, {})
    assert found.update(log) is True and found.update(log) is False


def test_a_table_of_an_older_revision_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "old"
    VerdictLog._create(old, COLUMNS, "verdicts")
    with pytest.raises(UserError, match="its format is 'verdicts', this recdistill reads 'verdicts, revision 2'"):
        VerdictLog.open(old)
    with pytest.raises(UserError, match="holds a table of another schema"):
        VerdictLog.create(old)


def test_an_unknown_verdict_is_refused(log: VerdictLog) -> None:
    with pytest.raises(UserError, match="column 'verdict': 'fine' is not one of approved, quarantined"):
        add(log, "teacher", 1, "fine")
    assert log.rows() == 0
