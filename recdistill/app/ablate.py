"""The stage behind `recdistill ablate`: a grid of methods over seeds as one run, which resumes and shares
what is alike.
"""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.against_first import over_first
from recdistill.app.progress import console
from recdistill.app.results import publish_files
from recdistill.app.run import open_run, report_stage, run_stages
from recdistill.config.experiment import ControlName
from recdistill.config.grid import load_grid
from recdistill.config.models import DistillConfig, TeacherHiddenConfig
from recdistill.evaluate.ablation import Ablation, Method, ablation_of
from recdistill.evaluate.notes import lost_note
from recdistill.evaluate.summary import LABELS, Transfer
from recdistill.report.ablation import signed, write_ablation

__all__ = ["ablate"]


def ablate(config: Path, grid: Path, data: Path | None, out: Path | None, assignments: list[str] | None) -> None:
    """Train every method of the grid, raw and distilled, and write ablation.json and ablation.html beside
    the run's report.
    """
    experiment, methods = load_grid(config, grid, assignments)
    with open_run(experiment, data, out) as folder:
        summary = run_stages(folder, experiment, data)
        report_stage(folder)
        tasks, hidden = len(summary.tasks), experiment.teacher_hidden
        sizes = {
            name: bytes_per_sample(student.distill, hidden, tasks) for name, student in experiment.students.items()
        }
        found = ablation_of(summary, methods, sizes, over_first(folder, experiment, summary))
        write_ablation(found, folder.here)
        publish_files(folder, experiment, [folder.here / "ablation.html", folder.here / "ablation.json"], console.print)
        _print(found)
        console.print(f"ablation: {folder.here / 'ablation.html'}", soft_wrap=True)


def bytes_per_sample(distill: DistillConfig, hidden: TeacherHiddenConfig, tasks: int) -> int:
    """Return the bytes of its teachers' record that a student reads of each sample."""
    if not distill.uses_teacher:
        return 0
    logits = 4 * len(distill.teachers) if distill.weight or distill.listwise or distill.adapter else 0
    return (logits + 2 * distill.candidates) * tasks + (hidden.size if distill.teacher_hidden else 0)


def _print(found: Ablation) -> None:
    controls = list(dict.fromkeys(control for one in found.methods for control in one.beyond))
    table = Table(
        "method",
        "raw",
        "distilled",
        f"eta ({found.metric})",
        "interval",
        *(f"beyond {control}" for control in controls),
        "step",
        "rows",
        "seconds",
        "bytes",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for one in found.methods:
        eta: Transfer = one.transferability.metric(found.metric)
        interval = "-" if eta.low is None or eta.high is None else f"{eta.low:+.3f} ... {eta.high:+.3f}"
        table.add_row(
            one.name,
            _cell(one.raw),
            _cell(one.distilled),
            _cell(eta.eta, "+.3f"),
            interval,
            *(_beyond(one, control, found.metric) for control in controls),
            *(_cell(times, ".2f") for times in (one.step_cost, one.rows_learned, one.seconds)),
            str(one.bytes_per_sample),
        )
    console.print(f"teacher: {LABELS[found.metric]} {_cell(found.teacher)}")
    console.print(table)
    _print_over_first(found)
    etas = [one.transferability.metric(found.metric) for one in found.methods]
    for line in dict.fromkeys(f"{'no eta' if eta.eta is None else 'eta'}: {eta.why}" for eta in etas if eta.why):
        console.print(line, soft_wrap=True)
    for line in dict.fromkeys(f"eta: {lost_note(eta).strip(' ()')}" for eta in etas if eta.loses_on):
        console.print(line, soft_wrap=True)


def _print_over_first(found: Ablation) -> None:
    """Print what the methods have over the first one, where they are scored on the same rows."""
    compared = [(one.name, one.over_first) for one in found.methods if one.over_first is not None]
    if not compared:
        return
    metric = LABELS[found.metric]
    headings = (f"{found.metric} over {found.first}, raw", "distilled", "training FLOPs, raw", "distilled")
    table = Table("method", *headings, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, over in compared:
        times = (_cell(one, ".2f") for one in (over.raw_flops, over.distilled_flops))
        table.add_row(name, signed(over.raw), signed(over.distilled), *times)
    console.print(f"{metric} and training FLOPs of each method's students against those of {found.first}")
    console.print(table)


def _beyond(method: Method, control: ControlName, metric: str) -> str:
    """Return eta beyond a control, with its interval."""
    if control not in method.beyond:
        return "-"
    eta: Transfer = method.beyond[control].metric(metric)
    return "-" if eta.eta is None else f"{eta.eta:+.3f} ({eta.low:+.3f} ... {eta.high:+.3f})"


def _cell(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)
