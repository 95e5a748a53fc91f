"""Undo, by a person: a teacher's versions revoked or unquarantined, a teacher made active, and what a student learned
from.

Nothing here touches a running model: verdicts are appended to their table, and every model reads them and goes back by
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from recdistill.checkpoint.store import Checkpoints
from recdistill.errors import UserError, did_you_mean
from recdistill.runs.folder import RunFolder
from recdistill.runs.names import is_teacher
from recdistill.stream.ingest.process import ingests
from recdistill.stream.registry.promote import Promotion, check_student, promotions, serving, students, verdicts_of
from recdistill.tables.delta.types import moment_of
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog

__all__ = ["Affected", "Lineage", "lineage", "revoke", "take_over", "unquarantine"]

ALL = 2**62  # rows: as many as a version may have


@dataclass(frozen=True)
class Lineage:
    """What a checkpoint learned from: versions of tables, and rows learned with a signal per teacher and version of it.

    rows: rows the student had predicted, the checkpoint's name. learned_from: teacher -> version -> rows. revoked:
    TEACHER@VERSION of what it learned from and what was revoked since.
    """

    model: str
    rows: int
    versions: dict[str, int | None]
    learned_from: dict[str, dict[int, int]]
    revoked: list[str]
    whole: bool


@dataclass(frozen=True)
class Affected:
    """A student that learned from a revoked version: its checkpoints that did, and the newest that did not (None: the
    hand-over).

    promoted: versions under RUN/serving that did, none of a run in an object store; serving: the one of them that is
    served now, None when none is.
    """

    model: str
    checkpoints: list[int]
    back_to: int | None
    promoted: list[int]
    serving: int | None


def _learned_from(state: dict[str, Any]) -> dict[str, dict[int, int]]:
    return {
        teacher: {int(version): int(rows) for version, rows in versions.items()}
        for teacher, versions in state["learned_from"].items()
    }


def lineage(folder: RunFolder, model: str) -> list[Lineage]:
    """Return what each of a student's stream checkpoints learned from, oldest first; those with no readable state are
    left out.

    Raises UserError for a model without any.
    """
    check_student(folder, model)
    checkpoints, found = Checkpoints(folder.model(model) / "stream"), []
    verdicts = verdicts_of(folder)
    for rows in checkpoints.blocks():
        try:
            state = checkpoints.state(rows)
            learned_from = _learned_from(state)
            revoked, whole = verdicts.revoked(learned_from), checkpoints.whole(rows)
            found.append(Lineage(model, rows, state["versions"], learned_from, revoked, whole))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged, or removed by the model meanwhile
    return found


def revoke(folder: RunFolder, model: str, versions: range, reason: str) -> list[Affected]:
    """Revoke a teacher's versions: no student learns from them any more, and those that did go back to before they did.

    Returns the students that did. Raises UserError, and revokes nothing, for a model that is no teacher and for
    versions that it never had.
    """
    _check_versions(folder, model, versions)
    if not reason.strip():
        raise UserError(f"{model}: give the reason why the versions are revoked")
    rows = [VerdictLog.row(model, version, "revoked", reason=" ".join(reason.split())) for version in versions]
    VerdictLog.create(folder.verdicts).append(pl.concat(rows), writer=_writer(), sequence=0)
    affected = (_affected(folder, student, model, versions) for student in students(folder))
    return [student for student in affected if student]


def _affected(folder: RunFolder, student: str, teacher: str, versions: range) -> Affected | None:
    def learned(made: Lineage | Promotion) -> bool:
        return any(version in versions for version in made.learned_from.get(teacher, {}))

    checkpoints = lineage(folder, student)
    hit = [checkpoint.rows for checkpoint in checkpoints if learned(checkpoint)]
    clean = [checkpoint.rows for checkpoint in checkpoints if not checkpoint.revoked and checkpoint.whole]
    made = promotions(serving(folder)) if isinstance(folder.root, Path) else []
    promoted = [promotion for promotion in made if promotion.model == student and learned(promotion)]
    if not hit and not promoted:
        return None
    now = next((promotion.version for promotion in promoted if promotion.current), None)
    return Affected(student, hit, max(clean, default=None), [promotion.version for promotion in promoted], now)


def unquarantine(folder: RunFolder, model: str, versions: range) -> None:
    """Let students learn from all rows of versions that were quarantined or revoked: a person vouches for them.

    Raises UserError, and changes nothing, where one of them is neither.
    """
    _check_versions(folder, model, versions)
    log, verdicts = VerdictLog.create(folder.verdicts), verdicts_of(folder)
    for version in versions:
        if (model, version) not in verdicts.bad:
            raise UserError(
                f"{model}: version {version} is neither quarantined nor revoked; there is nothing to unquarantine"
            )
    rows = [
        row
        for version in versions
        for row in (
            VerdictLog.row(model, version, "unquarantined"),
            VerdictLog.row(model, version, "approved", rows=ALL),
        )
    ]
    log.append(pl.concat(rows), writer=_writer(), sequence=0)


def take_over(folder: RunFolder, model: str, from_time: datetime | None = None) -> datetime:
    """Let students learn from the teacher `model` for samples from `from_time` on (default: the newest so far); return
    that time.

    Raises UserError for a model that is no teacher or has predicted nothing yet.
    """
    version = _newest(folder, model)
    if from_time is None:
        newest = max(
            (progress.watermark for progress in ingests(EventLog.open(folder.tables / "events")).values()), default=0
        )
        if not newest:
            raise UserError(f"{folder.root}: nothing was ingested from a stream yet; give the time from which on")
        from_time = moment_of(newest)
    if from_time.tzinfo is None:
        raise UserError(f"{model}: the time {from_time} has no time zone; write it as 2026-01-31T12:00:00+00:00")
    row = VerdictLog.row(model, version, "active", from_time=from_time)
    VerdictLog.create(folder.verdicts).append(row, writer=_writer(), sequence=0)
    return from_time


def _writer() -> str:
    return f"operator:{uuid4()}"


def _newest(folder: RunFolder, model: str) -> int:
    """Return a teacher's newest version; UserError when `model` is none."""
    models = PredictionLog.open(folder.predictions).models()
    newest = {name: version for name, version, _, _ in models if is_teacher(name)}
    if model not in newest:
        raise UserError(f"{folder.root}: no teacher '{model}' has predicted anything{did_you_mean(model, newest)}")
    return newest[model]


def _check_versions(folder: RunFolder, model: str, versions: range) -> None:
    newest = _newest(folder, model)
    if not len(versions) or versions[0] < 0 or versions[-1] > newest:
        raise UserError(f"{model}: has versions 0 to {newest}; got {versions.start} to {versions.stop - 1}")
