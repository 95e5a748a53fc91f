"""Verbs that take a student out of the building: export, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli import completion
from recdistill.cli.options import RunFolder

__all__ = ["export"]


def export(
    run_folder: RunFolder,
    model: Annotated[
        str,
        typer.Argument(
            help="A model, as light.distilled.s0, or a student: its first seed.", autocompletion=completion.models
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder of versions; made where it is not there.")],
) -> None:
    """Write a trained model as an artefact that is served without torch."""
    from recdistill.api.run import Run

    Run(run_folder).model(model).export(to)
