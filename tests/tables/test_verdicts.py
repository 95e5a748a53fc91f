"""Verdicts folded: the newest about a version counts, and whose turn it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.tables.verdicts import VerdictLog, Verdicts

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> VerdictLog:
    return VerdictLog.create(tmp_path / "verdicts")


def add(log: VerdictLog, model: str, version: int, verdict: Any, **about: Any) -> None:
    """Commit one verdict."""
    log.append(VerdictLog.row(model, version, verdict, **about), writer="w", sequence=log.last_sequence("w") + 1)


def folded(log: VerdictLog) -> Verdicts:
    """Return all verdicts."""
    found = Verdicts()
    found.update(log)
    return found


def test_rows_are_heard_as_far_as_they_were_judged(log: VerdictLog) -> None:
    add(log, "teacher", 1, "good", rows=200)
    add(log, "teacher", 1, "good", rows=100)  # an older one, said again
    found = folded(log)
    assert [found.may_hear("teacher", 1, row) for row in (0, 199, 200)] == [True, True, None]
    assert found.may_hear("teacher", 2, 0) is None and found.may_hear("teacher-b", 1, 0) is None


@pytest.mark.parametrize("verdict", ["quarantined", "revoked"])
def test_a_bad_version_is_not_heard_until_it_is_released(log: VerdictLog, verdict: str) -> None:
    add(log, "teacher", 1, "good", rows=200)
    add(log, "teacher", 1, verdict, reason="why")
    add(log, "teacher", 1, "good", rows=400)  # too late
    assert folded(log).may_hear("teacher", 1, 0) is False
    assert folded(log).bad == {("teacher", 1): (verdict, "why")}
    assert folded(log).may_hear("teacher", 2, 0) is None
    add(log, "teacher", 1, "released")
    assert folded(log).may_hear("teacher", 1, 399) is True


def test_one_commit_may_release_and_clear(log: VerdictLog) -> None:
    add(log, "teacher", 1, "quarantined")
    rows = [VerdictLog.row("teacher", 1, "released"), VerdictLog.row("teacher", 1, "good", rows=2**62)]
    log.append(pl.concat(rows), writer="operator", sequence=0)
    assert folded(log).may_hear("teacher", 1, 2**61) is True


def test_the_last_whose_turn_began_is_heard(log: VerdictLog) -> None:
    add(log, "teacher-c", 1, "active", from_time=NOON + timedelta(hours=2))
    add(log, "teacher-b", 1, "active", from_time=NOON)
    found = folded(log)
    hours = [found.active(NOON + timedelta(hours=h), "teacher") for h in (-1, 0, 1, 2, 3)]
    assert hours == ["teacher", "teacher-b", "teacher-b", "teacher-c", "teacher-c"]


def test_update_takes_up_what_is_new_alone(log: VerdictLog) -> None:
    found = Verdicts()
    found.update(log)
    assert found.update(log) is False
    add(log, "teacher", 1, "good", rows=5)
    assert found.update(log) is True and found.cleared == {("teacher", 1): 5} and found.version == log.version
    log.mark("gate", 0, {})
    assert found.update(log) is True and found.update(log) is False


def test_an_unknown_verdict_is_refused(log: VerdictLog) -> None:
    with pytest.raises(UserError, match="column 'verdict': 'fine' is not one of good, quarantined"):
        add(log, "teacher", 1, "fine")
    assert log.rows() == 0
