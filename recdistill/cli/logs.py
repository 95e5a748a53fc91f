"""Verbs about logs before there is a run: peek, readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["peek", "readers"]


def peek(
    log: Annotated[Path, typer.Argument(help="A file, folder, pattern in quotes, or Delta table.")],
    to: Annotated[Path | None, typer.Option("--to", help="The file to write; default standard output.")] = None,
) -> None:
    """Look at an unknown log and write a first experiment file, each guess with its reason and its doubt."""
    from recdistill.app.peek import peek as look

    look(log, to)


def readers() -> None:
    """List the published logs that are read by name, with their files and sizes."""
    from recdistill.app.peek import print_readers

    print_readers()
