"""The stage behind `recdistill compare`: finished runs side by side, printed and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from recdistill.app.progress import print_line, printed
from recdistill.report.compare import Comparison, Row, compared, finished, write_comparison
from recdistill.storage.location import location

__all__ = ["compare"]


def compare(folders: Sequence[str | Path], out: Path | None = None) -> Comparison:
    """Print finished runs side by side, write the page where one is asked for, and return what stands on it. folders:
    paths, or addresses of object stores.

    Raises UserError for fewer than two folders, and for one that holds no scored run; then nothing is written.
    """
    comparison = compared([finished(location(str(folder))) for folder in folders])
    for rows in (comparison.scores, comparison.etas, comparison.keys):
        if rows:
            _print(comparison.runs, rows)
    for line in (*comparison.notes, *(f"withheld: {why}" for why in comparison.withheld)):
        print_line(line)
    if out is not None:
        write_comparison(comparison, out)
        print_line(f"comparison: {out}")
    return comparison


def _print(runs: Sequence[str], rows: Sequence[Row]) -> None:
    """Print what the runs have under each heading."""
    table = Table("", *(Column(Text(name)) for name in runs), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(Text(f"{row.of} {row.name}".strip()), *(Text(cell or "-") for cell in row.cells))
    printed(table)
