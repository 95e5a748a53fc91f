"""What the stages print: lines, and one bar per model in training."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from recdistill.config.experiment import Experiment
from recdistill.runs.folder import RunFolder
from recdistill.tracking.session import tracked
from recdistill.train.trainer import Progress

__all__ = ["console", "print_line", "printed", "shown"]

console = Console(highlight=False, markup=False, emoji=False)


def print_line(line: str) -> None:
    """Print one line, however wide the terminal."""
    console.print(line, soft_wrap=True)


def printed(table: Table) -> None:
    """Print a table; into a pipe or a file as wide as it needs, so that no figure is cut."""
    if sys.stdout.isatty():
        return console.print(table)
    whole = Console(highlight=False, markup=False, emoji=False)
    wide = whole.options.update(max_width=1_000_000)
    whole.width = max(whole.width, Measurement.get(whole, wide, table).maximum)
    whole.print(table)


@contextmanager
def shown(folder: RunFolder, experiment: Experiment) -> Iterator[Callable[[str, Progress], None]]:
    """Show how far each model is, here and in the experiment's trackers."""
    with tracked(folder, experiment, print_line) as tracking, _bars() as bars:

        def show(name: str, at: Progress) -> None:
            bars(name, at)
            tracking.progress(name, at)

        yield show


@contextmanager
def _bars() -> Iterator[Callable[[str, Progress], None]]:
    """Show one bar per model in training; on a pipe, a line per finished model. The cursor comes back
    however it ends.
    """
    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(24),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    printed: set[str] = set()
    with Bars(*columns, console=console, disable=not (sys.stdout.isatty() or console.is_jupyter)) as bars:

        def show(name: str, at: Progress) -> None:
            note = f"{at.rows_per_second:>9,.0f} rows/s"
            note += "" if math.isnan(at.logloss) else f"  so far: LogLoss {at.logloss:.4f}  NE {at.ne:.4f}"
            note += "" if at.coverage is None else f"  coverage {at.coverage:.0%}"
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=at.total, note=note)
            bars.update(tasks[name], completed=at.done, note=note)
            if bars.disable and at.done == at.total and name not in printed:
                printed.add(name)
                print_line(f"{name:<26} {note}")

        yield show
