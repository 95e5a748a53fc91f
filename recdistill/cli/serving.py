"""Verbs that take a student out of the building: export, serve, canary, shadow."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli import completion
from recdistill.cli.options import Candidate, Rows, RunFolder, RunPlace
from recdistill.defaults import CANARY_CALIBRATION, CANARY_ERRORS, CANARY_SLOWER, RowKind
from recdistill.errors import UserError

__all__ = ["canary", "export", "serve", "shadow"]


def export(
    run_folder: RunPlace,
    model: Annotated[
        str,
        typer.Argument(
            help="A model, as light.distilled.s0, or a student: its first seed.", autocompletion=completion.models
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder of versions; made where it is not there.")],
    rows: Rows = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="A checkpoint's folder, as models/light.distilled.s0/00000012.")
    ] = None,
    candidate: Candidate = False,
    rows_as: Annotated[
        RowKind, typer.Option("--rows-as", help="How a row's numbers are written; what it costs is printed.")
    ] = "float32",
    drop_rows: Annotated[
        float, typer.Option("--drop-rows", min=0, help="Leave out this share of the rows, those of smallest length.")
    ] = 0.0,
    min_seen: Annotated[
        int, typer.Option("--min-seen", min=0, help="Leave out rows that fewer steps learned from.")
    ] = 0,
    max_loss: Annotated[
        float, typer.Option("--max-loss", min=0, help="With smaller rows: how much NE may rise on the scored window.")
    ] = 0.001,
) -> None:
    """Write a trained model as an artefact that is served without torch."""
    from recdistill.api.run import Run
    from recdistill.serve.rows import SmallerRows

    if rows is not None and checkpoint is not None:
        raise UserError("--rows, --checkpoint: give one of them")
    smaller = SmallerRows(rows_as, drop_rows, min_seen, max_loss)
    Run(run_folder).model(model).export(to, rows=rows, checkpoint=checkpoint, serves=not candidate, smaller=smaller)


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
    histories: Annotated[
        str | None,
        typer.Option("--histories", help="A run or redis://HOST:6379/0 that recdistill histories fills."),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            help="Write what is served as the stream's events: nats://HOST:4222, kafka://HOST:9092 or a folder.",
        ),
    ] = None,
    shown: Annotated[
        int | None, typer.Option("--shown", min=1, help="Of the log: how many of the best are shown; default all.")
    ] = None,
    shadow: Annotated[
        str | None, typer.Option("--shadow", help="A version, or another folder, that scores the same requests unseen.")
    ] = None,
    shadow_share: Annotated[
        float, typer.Option("--shadow-share", min=0, max=1, help="Of the requests, that the shadow scores.")
    ] = 1.0,
) -> None:
    """Serve an exported student over HTTP: one user, many candidates per request."""
    try:
        from recdistill.serve.limits import Limits
        from recdistill.serve.server import Extras, opened
        from recdistill.serve.server import serve as serve_artefact
    except ModuleNotFoundError as error:
        if (error.name or "recdistill").startswith("recdistill"):
            raise
        raise UserError(f"serve needs {error.name}; install it: pip install 'recdistill[serve]'") from None
    if shown is not None and log is None:
        raise UserError("--shown is of the request log; give --log too")
    extras = Extras(histories, log, shown, shadow, shadow_share)
    serve_artefact(partial(opened, artefact, Limits(threads=threads, together=together), extras), host, port, workers)


def canary(
    folder: Annotated[Path, typer.Argument(help="The folder of versions that is served.")],
    version: Annotated[int | None, typer.Option("--version", min=1, help="Which one, of those that are there.")] = None,
    share: Annotated[
        float, typer.Option("--share", min=0, max=1, help="Of the users; a larger one only adds users.")
    ] = 0.05,
    promote: Annotated[bool, typer.Option("--promote", help="Serve the canary to all.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="End it.")] = False,
    errors: Annotated[
        float, typer.Option("--errors", min=0, help="It ends when so many more of its requests fail.")
    ] = CANARY_ERRORS,
    slower: Annotated[
        float,
        typer.Option("--slower", min=1, help="It ends when it takes so many times as long, at the 95th percentile."),
    ] = CANARY_SLOWER,
    calibration: Annotated[
        float, typer.Option("--calibration", min=1, help="It ends when it predicts so many times more or less.")
    ] = CANARY_CALIBRATION,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Hold it against the outcomes in this run's tables, and end it if it is off."),
    ] = None,
    every: Annotated[
        float | None, typer.Option("--every", min=0, help="With --labels: look again after so many seconds.")
    ] = None,
) -> None:
    """Let a version answer a share of the users, always the same ones; without options, show how it stands."""
    from recdistill.serve import canary as canaries
    from recdistill.serve.pointer import Bounds

    if (version is not None) + promote + abort + (labels is not None) > 1:
        raise UserError("--version, --promote, --abort, --labels: give one of them")
    if every is not None and labels is None:
        raise UserError("--every goes with --labels")
    if labels is not None:
        _by_labels(labels, folder, every)
    elif promote:
        print(f"served: version {canaries.promote(folder)}")
    elif abort:
        print(f"ended: version {canaries.abort(folder)}")
    elif version is not None:
        about = canaries.begin(folder, version, share, Bounds(errors, slower, calibration))
        print(f"canary: version {version}, {about.model}, for {share:.1%} of the users")
    else:
        print(canaries.standing(folder))


def _by_labels(run: Path, folder: Path, every: float | None) -> None:
    try:
        from recdistill.app.canary import canary_stage
    except ModuleNotFoundError as error:
        if (error.name or "recdistill").startswith("recdistill"):
            raise
        raise UserError(f"--labels needs {error.name}; run it where the run is, with recdistill installed") from None
    canary_stage(run, folder, every)


def shadow(
    run_folder: RunFolder,
    folder: Annotated[Path, typer.Argument(help="The folder of versions that is served with --shadow.")],
) -> None:
    """Take what a shadow scored into a run's predictions, and compare it with what was served."""
    from recdistill.app.shadow import shadow_stage

    shadow_stage(run_folder, folder)
