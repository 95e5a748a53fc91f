"""What a shadow predicted, into the predictions table, and compared there with what was served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.progress import print_line, printed
from recdistill.app.spooled import take_spool
from recdistill.config.experiment import Experiment
from recdistill.defaults import SERVED, SHADOW
from recdistill.errors import UserError
from recdistill.evaluate.shadows import compared
from recdistill.evaluate.summary import LABELS, Shadow, Summary, load, write_summary
from recdistill.report.page import write_report
from recdistill.runs.folder import RunFolder
from recdistill.serve.spool import SPOOL
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog

__all__ = ["shadow_stage", "with_shadows"]


def shadow_stage(run: Path, root: Path) -> None:
    """Take what a shadow of the folder of versions `root` scored into a run's predictions, each version as a model of
    its own, `shadow.vN` and `served.vN`; then score them on the samples that both predicted and whose label is known,
    print that, and put it into the summary and the report of a run that was scored before.
    """
    folder = RunFolder(run)
    experiment, log = folder.experiment(), PredictionLog.open(folder.predictions)
    take_spool(log, root / SPOOL)
    if not any(name.startswith((SHADOW, SERVED)) for name, *_ in log.models()):
        raise UserError(f"{root / SPOOL}: nothing there; serve with --shadow first")
    shadows = compared(EventLog.open(folder.tables / "events"), log, experiment)
    if not shadows:
        return print_line(f"none of them has a label of {log.tasks[0]} yet; run this again when there are some")
    _print(shadows)
    _published(folder, shadows)


def _print(shadows: Sequence[Shadow]) -> None:
    """Print each shadow above the served version that it was held against, and what it gains, per metric."""
    for task in dict.fromkeys(one.task for one in shadows):
        mine = [one for one in shadows if one.task == task]
        names = mine[0].models["shadow"].metrics
        table = Table(task, "samples", *(LABELS[name] for name in names), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for one in mine:
            for name, model in ((one.shadow, one.models["shadow"]), (one.served, one.models["served"])):
                values = ("-" if value is None else f"{value:.4f}" for value in map(model.metric, names))
                table.add_row(name, f"{one.rows:,}", *values)
            table.add_row("gain", "", *(_gain(one, name) for name in names), end_section=True)
        printed(table)


def _gain(shadow: Shadow, metric: str) -> str:
    value, low, high = shadow.gains.get(metric, (None, None, None))
    if value is None or low is None or high is None:
        return ""
    return f"{value:+.4f} ({low:+.4f} ... {high:+.4f})"


def with_shadows(folder: RunFolder, experiment: Experiment, summary: Summary) -> Summary:
    """Return the summary with the run's shadows as the tables have them now."""
    found = compared(EventLog.open(folder.tables / "events"), PredictionLog.open(folder.predictions), experiment)
    return summary.model_copy(update={"shadows": found})


def _published(folder: RunFolder, shadows: list[Shadow]) -> None:
    """Let the summary and the report of a run that was scored have these shadows."""
    path = folder.root / "summary.json"
    if path.exists():
        summary = load(path).model_copy(update={"shadows": shadows})
        write_summary(summary, path)
        write_report(summary, folder.root / "report.html")
        print_line(f"report: {folder.root / 'report.html'}")
