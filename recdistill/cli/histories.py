"""The verb that keeps users' histories for servers: histories."""

from __future__ import annotations

from typing import Annotated

import typer

from recdistill.cli.options import RunFolder

__all__ = ["histories"]


def histories(
    run_folder: RunFolder,
    to: Annotated[
        str | None, typer.Option("--to", help="Also into Redis, redis://HOST:6379/0; default the run's folder alone.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option("--length", min=1, max=1_000_000, help="Events of a user; default the students' longest history."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when all is there that is in the tables now.")] = False,
) -> None:
    """Keep every user's newest events for servers, as the run's tables grow."""
    from recdistill.runs.folder import RunFolder
    from recdistill.stream.histories.process import longest, run_histories

    folder = RunFolder(run_folder)
    experiment = folder.experiment()
    run_histories(folder, experiment, to, length or longest(experiment), once)
