"""The stage behind `recdistill compare`: finished runs side by side, printed and as a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from recdistill.app.progress import print_line
from recdistill.report.compare import Comparison, Row, compared, finished, write_comparison

__all__ = ["compare"]


def compare(folders: Sequence[str | Path], out: Path | None = None) -> Comparison:
    """Print finished runs side by side, write the page where one is asked for, and return what stands on it.

    Raises UserError for fewer than two folders, and for one that holds no scored run; then nothing is written.
    """
    comparison = compared([finished(Path(folder)) for folder in folders])
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
    """Print a table; into a pipe or a file as wide as it needs, so that no figure is cut."""
    table = Table("", *(Column(Text(name)) for name in runs), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(Text(f"{row.of} {row.name}".strip()), *(Text(cell or "-") for cell in row.cells))
    console = Console(highlight=False)
    if not sys.stdout.isatty():
        wide = console.options.update(max_width=1_000_000)
        console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    console.print(table)
