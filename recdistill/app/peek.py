"""The stages behind `recdistill peek` and `recdistill readers`: a draft for an unknown log, the logs known by name."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from recdistill.app.progress import print_line, printed
from recdistill.data.peek.guess import peek_text
from recdistill.data.readers.published import PUBLISHED
from recdistill.errors import UserError
from recdistill.evaluate.summary import write_atomic

__all__ = ["peek", "print_readers"]


def peek(log: Path, to: Path | None = None) -> str:
    """Return a first experiment file for an unknown log; print it, or write it to a file that is not there yet.

    Raises UserError for a log that cannot be read or has no rows, and for a file that is there; then nothing is
    written.
    """
    if to is not None and to.exists():
        raise UserError(f"{to}: is there already; name another file with --to, or delete it")
    text = peek_text(log)
    if to is None:
        print(text, end="")
    else:
        write_atomic(text, to)
        print_line(f"draft: {to}; settle its doubts ('?'), then: recdistill ingest {to}")
    return text


def print_readers() -> None:
    """Print the published logs that are read by name: their files, their size, and where each is explained."""
    table = Table("reader", "log", "files", "rows as published", "explained in", box=None)
    for name, one in PUBLISHED.items():
        for place, (log, rows) in enumerate(one.logs.items()):
            first = place == 0
            table.add_row(
                name if first else "", log, ", ".join(one.patterns) if first else "", rows, one.page if first else ""
            )
    printed(table)
    print_line("any other log: reader table; see recdistill peek")
