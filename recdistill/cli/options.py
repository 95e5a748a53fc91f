"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli import completion

__all__ = ["Candidate", "Config", "Data", "Out", "OutPlace", "Rows", "RunFolder", "RunPlace", "Set"]

Config = Annotated[Path, typer.Argument(help="The experiment file (YAML).")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder that data.path is relative to.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run; default runs/NAME.")]
OutPlace = Annotated[
    str | None, typer.Option("--out", help="Folder of the run, or s3://BUCKET/PREFIX; default runs/NAME.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override one key: --set teacher.width=64")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.", autocompletion=completion.runs)]
RunPlace = Annotated[
    str, typer.Argument(help="The folder of a run, or s3://BUCKET/PREFIX.", autocompletion=completion.runs)
]
Rows = Annotated[
    int | None,
    typer.Option("--rows", min=1, help="The first checkpoint that had predicted so many rows; default the newest."),
]
Candidate = Annotated[
    bool, typer.Option("--candidate", help="Only put the version there; what is served stays, for shadow or canary.")
]
