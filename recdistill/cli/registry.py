"""Verbs about which versions count and which are served: revoke, unquarantine, lineage, promote, rollback."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli import completion
from recdistill.cli.options import Candidate, Rows, RunPlace

__all__ = ["lineage", "promote", "revoke", "rollback", "unquarantine"]

Teacher = Annotated[str, typer.Option("--model", help="The teacher.", autocompletion=completion.models)]
Versions = Annotated[str, typer.Argument(help="One, as 12, or the first and the last, as 12-14.")]


def revoke(
    run_folder: RunPlace,
    versions: Versions,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.")],
    model: Teacher = "teacher",
) -> None:
    """Take back a teacher's versions: students that learned from them go back to before they did."""
    from recdistill.app.operations import revoke_stage

    revoke_stage(run_folder, versions, model, reason)


def unquarantine(run_folder: RunPlace, versions: Versions, model: Teacher = "teacher") -> None:
    """Let students learn from versions of a teacher that were quarantined or revoked."""
    from recdistill.app.operations import unquarantine_stage

    unquarantine_stage(run_folder, versions, model)


def lineage(
    run_folder: RunPlace,
    model: Annotated[str, typer.Argument(help="A student, as light.distilled.s0.", autocompletion=completion.models)],
) -> None:
    """Show what each checkpoint of a student learned from."""
    from recdistill.app.operations import lineage_stage

    lineage_stage(run_folder, model)


def promote(
    run_folder: RunPlace,
    model: Annotated[
        str, typer.Argument(help="A student to serve, or a teacher to learn from.", autocompletion=completion.models)
    ],
    rows: Rows = None,
    force: Annotated[bool, typer.Option("--force", help="Even when it is worse than what is served.")] = False,
    start: Annotated[
        datetime | None, typer.Option("--from", help="From samples of this time (UTC) on students use the teacher.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The folder of versions; default RUN/serving.")] = None,
    candidate: Candidate = False,
) -> None:
    """Serve a student's checkpoint as a version of an artefact, or let students learn from another teacher."""
    from recdistill.app.operations import promote_stage

    promote_stage(run_folder, model, rows, force, start.replace(tzinfo=UTC) if start else None, to, not candidate)


def rollback(
    folder: Annotated[
        str,
        typer.Argument(
            help="The folder of a run, or s3://BUCKET/PREFIX, or a folder of versions.", autocompletion=completion.runs
        ),
    ],
    to: Annotated[Path | None, typer.Option("--to", help="A run's folder of versions; default RUN/serving.")] = None,
) -> None:
    """Serve again what was served before."""
    from recdistill.serve.versions import holds_versions, roll_back
    from recdistill.storage.location import location

    place = location(folder)
    if to is None and isinstance(place, Path) and holds_versions(place):  # where it is served, often nothing else is
        made = roll_back(place)
        print(f"served: version {made.version}, {made.model}")
        return
    from recdistill.app.operations import rollback_stage

    rollback_stage(folder, to)
