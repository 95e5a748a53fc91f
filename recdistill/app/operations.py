"""What a person does to a running stream: verdicts over a teacher's versions, what is served, housekeeping."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.export import export_stage
from recdistill.app.progress import console
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_by_name
from recdistill.runs.names import TEACHER, is_teacher
from recdistill.storage.lease import probe
from recdistill.storage.location import location
from recdistill.stream.event_log import Journal
from recdistill.stream.maintenance.compact import Housekeeper
from recdistill.stream.registry.promote import check_student, may_serve, rollback, serving
from recdistill.stream.registry.revoke import lineage, revoke, take_over, unquarantine

__all__ = [
    "compact_stage",
    "lineage_stage",
    "promote_stage",
    "revoke_stage",
    "rollback_stage",
    "unquarantine_stage",
    "versions_of",
]


MAX_DIGITS = 10  # of a version's number


def versions_of(text: str) -> range:
    """Return the versions that FIRST or FIRST-LAST names; UserError for anything else."""
    first, dash, last = text.partition("-")
    if not all(number.isdecimal() and len(number) < MAX_DIGITS for number in ([first, last] if dash else [first])):
        raise UserError(f"versions {text!r}: write one, as 12, or the first and the last, as 12-14")
    return range(int(first), int(last or first) + 1)


def _open(run: str | Path) -> RunFolder:
    folder = RunFolder(location(str(run)))
    folder.experiment()
    return folder


def revoke_stage(run: str | Path, versions: str, model: str, reason: str) -> None:
    """Revoke a teacher's versions; print which students learned from them and where each goes back to."""
    folder = _open(run)
    affected = revoke(folder, model, versions_of(versions), reason)
    Journal(folder.logs, "operator").write("revoked", model=model, versions=versions, reason=reason)
    if not affected:
        console.print("no student has learned from it", soft_wrap=True)
        return
    table = Table("student", "checkpoints that learned from it", "goes back to", "versions that did", box=SIMPLE_HEAD)
    for student in affected:
        back = "the hand-over" if student.back_to is None else f"{student.back_to:,} rows"
        promoted = ", ".join(f"{one} (served now)" if one == student.serving else str(one) for one in student.promoted)
        table.add_row(student.model, ", ".join(f"{rows:,}" for rows in student.checkpoints), back, promoted or "-")
    console.print(table)
    console.print("students that run go back and replay by themselves, the others when they start", soft_wrap=True)


def unquarantine_stage(run: str | Path, versions: str, model: str) -> None:
    """Let students learn from versions that were quarantined or revoked."""
    folder = _open(run)
    unquarantine(folder, model, versions_of(versions))
    Journal(folder.logs, "operator").write("unquarantined", model=model, versions=versions)


def lineage_stage(run: str | Path, model: str) -> None:
    """Print what each checkpoint of a student learned from."""
    table = Table("checkpoint", "tables", "signals, rows per teacher@version", "", box=SIMPLE_HEAD)
    for made in lineage(_open(run), model):
        versions = ", ".join(
            f"{name} {version}" for name, version in made.versions.items() if version is not None and version >= 0
        )
        signals = ", ".join(
            f"{teacher}@{version}: {rows:,}"
            for teacher, counts in made.learned_from.items()
            for version, rows in counts.items()
        )
        bad = f"revoked: {', '.join(made.revoked)}" if made.revoked else "" if made.whole else "damaged"
        table.add_row(f"{made.rows:,} rows", versions, signals or "-", bad)
    console.print(table)


def promote_stage(
    run: str | Path, model: str, rows: int | None, force: bool, start: datetime | None, to: Path | None, serves: bool
) -> None:
    """Serve a student's checkpoint from the folder of versions `to` (None: the run's), or let students learn from
    another teacher.
    """
    folder = _open(run)
    if is_teacher(model):
        if to is not None or not serves:
            raise UserError(f"--to, --candidate go with a student, not with the teacher '{model}'")
        begins = take_over(folder, model, start)
        console.print(
            f"students learn from {model} for samples from {begins.isoformat(timespec='seconds')} on", soft_wrap=True
        )
        Journal(folder.logs, "operator").write("takes over", model=model, start=begins.isoformat())
        return
    if start is not None:
        raise UserError(f"--from goes with a teacher ({TEACHER}, {TEACHER}-NAME), not with the student '{model}'")
    check_student(folder, model)
    experiment, root = folder.experiment(), to or serving(folder)
    job = jobs_by_name(experiment).get(model)
    if job is None:
        raise UserError(f"{model}: the experiment has no such model any more")
    found = may_serve(folder, job, root, rows, force=force)
    place = export_stage(folder, experiment, job, root, found, serves)
    console.print(f"{'served' if serves else 'not served yet'}: version {place.name}", soft_wrap=True)
    Journal(folder.logs, "operator").write("promoted", model=model, rows=found.rows, version=int(place.name))


def rollback_stage(run: str | Path, to: Path | None) -> None:
    """Serve again what was served before, from the folder of versions `to` (None: the run's)."""
    folder = _open(run)
    made = rollback(folder, to or serving(folder))
    console.print(f"served: version {made.version}, {made.model} after {made.rows:,} rows", soft_wrap=True)
    Journal(folder.logs, "operator").write("rolled back", to=made.version)


def compact_stage(run: str | Path, retain_days: int | None) -> None:
    """Do one round of housekeeping. Raises UserError where this machine's clock, by which files are old, is far from
    that of the store.
    """
    folder = _open(run)
    if not isinstance(folder.root, Path):
        probe(folder.root)
    merged = Housekeeper(folder, folder.experiment(), Journal(folder.logs, "operator")).round(retain_days)
    console.print(f"{merged} tables merged", soft_wrap=True)
