"""What a shell offers after Tab: folders of runs, and the models in them. Reads names of files and nothing else."""

from __future__ import annotations

import os
import re
from pathlib import Path

import typer

__all__ = ["models", "runs"]

MOST = 200  # answers; more is no help
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+,@%-]*")


def runs(incomplete: str) -> list[str]:
    """Return the folders of runs that begin with what is typed: there, and one level deeper, as in runs/."""
    start, _, begun = incomplete.rpartition("/")
    root = Path(f"{start}/" if "/" in incomplete else ".")
    shown = f"{start}/" if "/" in incomplete else ""
    found = []
    for name in _folders(root):
        if name.startswith(begun):
            found += [f"{shown}{name}"] if (root / name / "run.json").is_file() else []
            found += [f"{shown}{name}/{below}" for below in _runs_in(root / name)]
    return found[:MOST]


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the models of the run that stands before it on the line."""
    run = ctx.params.get("run_folder") or next(iter(ctx.args), None)  # not parsed yet behind an option without a value
    return [name for name in _folders(Path(run) / "models") if name.startswith(incomplete)][:MOST] if run else []


def _runs_in(folder: Path) -> list[str]:
    return [name for name in _folders(folder) if (folder / name / "run.json").is_file()]


def _folders(folder: Path) -> list[str]:
    """Return the names of a folder's folders, sorted; none where it cannot be read.

    One that a shell could read as more than a name is left out.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if PLAIN.fullmatch(entry.name) and entry.is_dir())
    except OSError:
        return []
