"""Verbs of a stream: stream, role (hidden), watch, compact."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from recdistill.cli.options import Config, Data, OutPlace, RunPlace, Set

__all__ = ["INTERRUPTED", "compact", "role", "stream", "watch"]

INTERRUPTED = 130


def stream(
    config: Config,
    data: Data = None,
    out: OutPlace = None,
    set_: Set = None,
    role: Annotated[
        str | None,
        typer.Option("--role", help="Only this process: batch, publish, ingest, gate, compact or a model."),
    ] = None,
) -> None:
    """Batch phase, then streaming, every process or one; run it again to resume. Under torchrun: one model, by
    ranks.
    """
    from recdistill.config.load import load_file
    from recdistill.distributed.environment import asked_for
    from recdistill.storage.location import location

    experiment = load_file(config, set_)
    os.environ.update(experiment.storage.variables())
    place = location(out or f"runs/{experiment.name}")
    if asked_for():
        from recdistill.app.stream import run_by_ranks
        from recdistill.distributed.launch import leave

        run_by_ranks(experiment, data, place, role)
        leave()
    if role is not None:
        from recdistill.app.stream import run_alone

        return run_alone(experiment, data, place, role)
    from recdistill.stream.prefork import Prefork

    with Prefork(place) as processes:  # it imports while we do
        from recdistill.app.stream import run_stream

        run_stream(experiment, data, place, processes)


def role(
    run_folder: RunPlace, room: Annotated[str, typer.Argument(help="Room for a role's name, as ps shows it.")]
) -> None:
    """Fork the processes of a stream for the command that started this one."""
    try:
        from recdistill.app.stream import run_child
        from recdistill.storage.location import location

        run_child(location(run_folder))
    except KeyboardInterrupt:  # the one that started it reports it for all
        os._exit(INTERRUPTED)


def watch(
    run_folder: RunPlace,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8377,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; others than loopback can be read by anyone who reaches it."),
    ] = "127.0.0.1",
) -> None:
    """Serve the live page and the metrics of a run's stream."""
    from recdistill.runs.folder import RunFolder
    from recdistill.storage.location import location
    from recdistill.stream.monitor.watch.launch import serve_watch

    folder = RunFolder(location(run_folder))
    serve_watch(folder, folder.experiment(), host, port)


def compact(
    run_folder: RunPlace, retain_days: Annotated[int | None, typer.Option("--retain-days", min=1, max=36_500)] = None
) -> None:
    """Merge the small files of a run's tables, and let old days go."""
    from recdistill.app.operations import compact_stage

    compact_stage(run_folder, retain_days)
