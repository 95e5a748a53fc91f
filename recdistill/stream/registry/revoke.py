"""Undo, by a person: a teacher's version revoked or released, a teacher's turn, and what a student learned from.

Nothing here touches a running model: verdicts are appended to their table, and every model reads them and goes back by
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import polars as pl

from recdistill.checkpoint.store import Checkpoints
from recdistill.errors import UserError, did_you_mean
from recdistill.runs.folder import RunFolder
from recdistill.stream.gate.process import is_teacher
from recdistill.stream.ingest.process import ingests
from recdistill.stream.registry.promote import promotions, students, verdicts_of
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog

__all__ = ["Affected", "Lineage", "lineage", "release", "revoke", "take_over"]

ALL = 2**62  # rows: as many as a version may have


@dataclass(frozen=True)
class Lineage:
    """What a checkpoint learned from: versions of tables, and rows learned with a signal per teacher and version of it.

    rows: rows the student had said, the checkpoint's name. revoked: TEACHER@VERSION of what it heard and what was
    revoked since.
    """

    model: str
    rows: int
    versions: dict[str, int | None]
    heard: dict[str, dict[int, int]]
    revoked: list[str]
    whole: bool


@dataclass(frozen=True)
class Affected:
    """A student that heard a revoked version: its checkpoints that did, and the newest that did not (None: the
    hand-over).

    promoted: names NAME/NUMBER under serving that did; serving: the one of them that is served now, None when none is.
    """

    model: str
    checkpoints: list[int]
    back_to: int | None
    promoted: list[str]
    serving: str | None


def _heard(state: dict[str, Any]) -> dict[str, dict[int, int]]:
    return {
        teacher: {int(version): int(rows) for version, rows in versions.items()}
        for teacher, versions in state["heard"].items()
    }


def lineage(folder: RunFolder, model: str) -> list[Lineage]:
    """Return what each of a student's stream checkpoints learned from, oldest first; those with no readable state are
    left out.

    Raises UserError for a model without any.
    """
    if model not in students(folder):
        raise UserError(
            f"{folder.root}: no student '{model}' with checkpoints of a stream{did_you_mean(model, students(folder))}"
        )
    checkpoints, found = Checkpoints(folder.model(model) / "stream"), []
    verdicts = verdicts_of(folder)
    for rows in checkpoints.blocks():
        try:
            state = checkpoints.state(rows)
            heard = _heard(state)
            found.append(
                Lineage(model, rows, state["versions"], heard, verdicts.revoked(heard), checkpoints.whole(rows))
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged, or removed by the model meanwhile
    return found


def revoke(folder: RunFolder, model: str, versions: range, reason: str) -> list[Affected]:
    """Revoke a teacher's versions: no student hears them from now on, and those that did go back to before they did.

    Returns the students that did. Raises UserError, and revokes nothing, for a model that is no teacher and for
    versions that it never had.
    """
    _check_versions(folder, model, versions)
    if not reason.strip():
        raise UserError(f"{model}: say why the versions are revoked")
    rows = [VerdictLog.row(model, version, "revoked", reason=" ".join(reason.split())) for version in versions]
    VerdictLog.create(folder.verdicts).append(pl.concat(rows), writer=_writer(), sequence=0)
    return [each for each in (_affected(folder, student, model, versions) for student in students(folder)) if each]


def _affected(folder: RunFolder, student: str, teacher: str, versions: range) -> Affected | None:
    known = lineage(folder, student)
    hit = [each.rows for each in known if any(version in versions for version in each.heard.get(teacher, {}))]
    clean = [each.rows for each in known if not each.revoked and each.whole]
    mine = [each for each in promotions(folder) if each.model == student]
    told = [each for each in mine if any(version in versions for version in each.heard.get(teacher, {}))]
    if not hit and not told:
        return None
    now = next((each.name for each in told if each.current), None)
    return Affected(student, hit, max(clean, default=None), [each.name for each in told], now)


def release(folder: RunFolder, model: str, versions: range) -> None:
    """Let students hear all of a teacher's versions that were quarantined or revoked: a person vouches for them.

    Raises UserError, and releases nothing, where one of them is neither.
    """
    _check_versions(folder, model, versions)
    log, verdicts = VerdictLog.create(folder.verdicts), verdicts_of(folder)
    for version in versions:
        if (model, version) not in verdicts.bad:
            raise UserError(
                f"{model}: version {version} is neither quarantined nor revoked; there is nothing to release"
            )
    rows = [
        row
        for version in versions
        for row in (VerdictLog.row(model, version, "released"), VerdictLog.row(model, version, "good", rows=ALL))
    ]
    log.append(pl.concat(rows), writer=_writer(), sequence=0)


def take_over(folder: RunFolder, model: str, from_time: datetime | None = None) -> datetime:
    """Let students hear the teacher `model` about samples of `from_time` on (default: the newest so far); return that
    time.

    Raises UserError for a model that is no teacher or has not spoken.
    """
    version = _newest(folder, model)
    if from_time is None:
        newest = max(
            (about.watermark for about in ingests(EventLog.open(folder.tables / "events")).values()), default=0
        )
        if not newest:
            raise UserError(f"{folder.root}: nothing was ingested from a stream yet; say from which time on")
        from_time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=newest)
    if from_time.tzinfo is None:
        raise UserError(f"{model}: the time {from_time} has no time zone; write it as 2026-01-31T12:00:00+00:00")
    row = VerdictLog.row(model, version, "active", from_time=from_time)
    VerdictLog.create(folder.verdicts).append(row, writer=_writer(), sequence=0)
    return from_time


def _writer() -> str:
    return f"operator:{uuid4()}"


def _newest(folder: RunFolder, model: str) -> int:
    """Return a teacher's newest version; UserError when `model` is none."""
    spoke = {
        name: version for name, version, _, _ in PredictionLog.open(folder.predictions).models() if is_teacher(name)
    }
    if model not in spoke:
        raise UserError(f"{folder.root}: no teacher '{model}' has said anything{did_you_mean(model, spoke)}")
    return spoke[model]


def _check_versions(folder: RunFolder, model: str, versions: range) -> None:
    newest = _newest(folder, model)
    if not len(versions) or versions[0] < 0 or versions[-1] > newest:
        raise UserError(f"{model}: has versions 0 to {newest}; got {versions.start} to {versions.stop - 1}")
