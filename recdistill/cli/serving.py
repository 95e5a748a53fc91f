"""Verbs that take a student out of the building: export, serve."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli import completion
from recdistill.cli.options import RunFolder
from recdistill.errors import UserError

__all__ = ["export", "serve"]


def export(
    run_folder: RunFolder,
    model: Annotated[
        str,
        typer.Argument(
            help="A model, as light.distilled.s0, or a student: its first seed.", autocompletion=completion.models
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder of versions; made where it is not there.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Rows as int8: a quarter of the bytes; what it costs is printed.")
    ] = False,
    max_loss: Annotated[
        float, typer.Option("--max-loss", min=0, help="With --int8: by how much NE may rise on the scored window.")
    ] = 0.001,
) -> None:
    """Write a trained model as an artefact that is served without torch."""
    from recdistill.api.run import Run

    Run(run_folder).model(model).export(to, int8_loss=max_loss if int8 else None)


def serve(
    artefact: Annotated[Path, typer.Argument(help="What recdistill export wrote.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8378,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than loopback are reached by anyone.")
    ] = "127.0.0.1",
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=256, help="Requests that a process scores at a time.")
    ] = 2,
    together: Annotated[
        int, typer.Option("--together", min=1, max=64, help="Requests that wait and are scored in one call.")
    ] = 1,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Processes, which share the port and the artefact.")
    ] = 1,
) -> None:
    """Serve an exported student over HTTP: one user, many candidates per request."""
    try:
        from recdistill.serve.limits import Limits
        from recdistill.serve.server import opened
        from recdistill.serve.server import serve as serve_artefact
    except ModuleNotFoundError as error:
        if (error.name or "recdistill").startswith("recdistill"):
            raise
        raise UserError(f"serve needs {error.name}; install it: pip install 'recdistill[serve]'") from None
    serve_artefact(partial(opened, artefact, Limits(threads=threads, together=together)), host, port, workers)
