"""What a person does to a running stream: verdicts over a teacher's versions, what is served, housekeeping."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.errors import UserError
from recdistill.learn.folder import RunFolder
from recdistill.learn.jobs import TEACHER
from recdistill.pipeline import console
from recdistill.stream.compact import Housekeeper
from recdistill.stream.gate import is_teacher
from recdistill.stream.journal import Journal
from recdistill.stream.serving import promote, rollback
from recdistill.stream.undo import lineage, release, revoke, take_over

__all__ = [
    "compact_stage",
    "lineage_stage",
    "promote_stage",
    "release_stage",
    "revoke_stage",
    "rollback_stage",
    "versions_of",
]


MAX_DIGITS = 10  # of a version's number


def versions_of(text: str) -> range:
    """Return the versions that FIRST or FIRST-LAST names; UserError for anything else."""
    first, dash, last = text.partition("-")
    if not all(number.isdecimal() and len(number) < MAX_DIGITS for number in ([first, last] if dash else [first])):
        raise UserError(f"versions {text!r}: write one, as 12, or the first and the last, as 12-14")
    return range(int(first), int(last or first) + 1)


def _open(run: Path) -> RunFolder:
    folder = RunFolder(run)
    folder.experiment()
    return folder


def revoke_stage(run: Path, versions: str, model: str, reason: str) -> None:
    """Revoke a teacher's versions; tell which students learned from them and where each goes back to."""
    folder = _open(run)
    affected = revoke(folder, model, versions_of(versions), reason)
    Journal(folder.logs, "operator").tell("revoked", model=model, versions=versions, reason=reason)
    if not affected:
        console.print("no student has learned from it", soft_wrap=True)
        return
    table = Table(
        "student", "checkpoints that learned from it", "goes back to", "promoted ones that did", box=SIMPLE_HEAD
    )
    for each in affected:
        back = "the hand-over" if each.back_to is None else f"{each.back_to:,} rows"
        promoted = ", ".join(f"{name} (served now)" if name == each.serving else name for name in each.promoted)
        table.add_row(each.model, ", ".join(f"{rows:,}" for rows in each.checkpoints), back, promoted or "-")
    console.print(table)
    console.print("students that run go back and replay by themselves, the others when they start", soft_wrap=True)


def release_stage(run: Path, versions: str, model: str) -> None:
    """Let students hear versions that were quarantined or revoked."""
    folder = _open(run)
    release(folder, model, versions_of(versions))
    Journal(folder.logs, "operator").tell("released", model=model, versions=versions)


def lineage_stage(run: Path, model: str) -> None:
    """Print what each checkpoint of a student learned from."""
    table = Table("checkpoint", "tables", "signals heard, rows per teacher@version", "", box=SIMPLE_HEAD)
    for each in lineage(_open(run), model):
        versions = ", ".join(
            f"{name} {version}" for name, version in each.versions.items() if version is not None and version >= 0
        )
        heard = ", ".join(
            f"{teacher}@{version}: {rows:,}" for teacher, told in each.heard.items() for version, rows in told.items()
        )
        bad = f"revoked: {', '.join(each.revoked)}" if each.revoked else "" if each.whole else "damaged"
        table.add_row(f"{each.rows:,} rows", versions, heard or "-", bad)
    console.print(table)


def promote_stage(run: Path, model: str, rows: int | None, force: bool, start: datetime | None) -> None:
    """Serve a student's checkpoint, or let students hear another teacher."""
    folder = _open(run)
    if is_teacher(model):
        begins = take_over(folder, model, start)
        console.print(
            f"students hear {model} about samples of {begins.isoformat(timespec='seconds')} on", soft_wrap=True
        )
        Journal(folder.logs, "operator").tell("takes over", model=model, start=begins.isoformat())
        return
    if start is not None:
        raise UserError(f"--from goes with a teacher ({TEACHER}, {TEACHER}-NAME), not with the student '{model}'")
    made = promote(folder, model, rows, force=force)
    console.print(
        f"served: {made.name}, {model} after {made.rows:,} rows -> {folder.root / 'serving' / made.name}",
        soft_wrap=True,
    )
    Journal(folder.logs, "operator").tell("promoted", model=model, rows=made.rows)


def rollback_stage(run: Path) -> None:
    """Serve again what was served before."""
    folder = _open(run)
    made = rollback(folder)
    console.print(f"served: {made.name}, {made.model} after {made.rows:,} rows", soft_wrap=True)
    Journal(folder.logs, "operator").tell("rolled back", to=made.name)


def compact_stage(run: Path, retain_days: int | None) -> None:
    """Do one round of housekeeping."""
    folder = _open(run)
    merged = Housekeeper(folder, folder.experiment(), Journal(folder.logs, "operator")).round(retain_days)
    console.print(f"{merged} tables merged", soft_wrap=True)
