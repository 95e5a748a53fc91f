"""A canary held against outcomes: what its version and the served one predicted, and what users then did."""

from __future__ import annotations

import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.progress import print_line, printed
from recdistill.app.spooled import take_spool
from recdistill.config.experiment import Experiment
from recdistill.evaluate.canary import Happened, began, fault, happened
from recdistill.runs.folder import RunFolder
from recdistill.serve.canary import end, standing
from recdistill.serve.pointer import Pointer, read_pointer
from recdistill.serve.spool import RECORDS
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog

__all__ = ["canary_stage"]


def canary_stage(run: Path, root: Path, every: float | None) -> None:
    """Hold the canary of the folder of versions `root` against the outcomes in a run's tables, and end it where it is
    off; every: seconds until the next look, None for one look. Ends with the canary.
    """
    folder = RunFolder(run)
    experiment = folder.experiment()
    standing(root)  # refuses a folder without versions
    while (pointer := read_pointer(root)) is not None and pointer.canary is not None:
        why = _look(folder, experiment, root, pointer)
        if why is not None:
            end(root, pointer.canary.version, f"version {pointer.canary.version}, the canary, was ended: {why}")
        elif every is None:
            break
        else:
            time.sleep(every)
    print_line(standing(root))


def _look(folder: RunFolder, experiment: Experiment, root: Path, pointer: Pointer) -> str | None:
    """Take what was served since, print how it ended, and return what the canary is ended for."""
    canary = pointer.canary
    if canary is None:
        return None
    log, events = PredictionLog.open(folder.predictions), EventLog.open(folder.tables / "events")
    take_spool(log, root / RECORDS)
    names = [canary.named(version) for version in (canary.version, pointer.version)]
    since = began(log, names)
    if since is None:
        print_line(f"no predictions of version {canary.version} yet; a server with its canary writes them")
        return None
    found, window = dict[str, list[Happened]](), experiment.labels.window_s
    for task in log.tasks:
        found[task] = [happened(events, log, name, task, since, window) for name in names]
    _print(names, found)
    bound = canary.bounds.calibration
    return next(filter(None, (fault(task, mine, its, bound) for task, (mine, its) in found.items())), None)


def _print(names: list[str], found: dict[str, list[Happened]]) -> None:
    """Print a row per task and version."""
    table = Table("task", "version", "samples", "predicted", "happened", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for task, arms in found.items():
        for name, one in zip(names, arms, strict=True):
            means = (f"{value / one.rows:.4g}" if one.rows else "-" for value in (one.predicted, one.observed))
            table.add_row(task, name, f"{one.rows:,}", *means)
    printed(table)
