"""What a scored run prints: the table of scores, eta, the verdicts, the warnings."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recdistill.app.progress import print_line, printed
from recdistill.evaluate.baselines import NAMES
from recdistill.evaluate.headline import headlines
from recdistill.evaluate.notes import lost_note, training_of, widest_note
from recdistill.evaluate.summary import LABELS, ModelSummary, Summary, Transfer

__all__ = ["print_summary"]

SHORT = {"calibration": "calib."}


def print_summary(summary: Summary) -> None:
    """Print the models' scores, how much arrived, the verdict of each student, and the warnings."""
    shown = [SHORT.get(name, LABELS[name]) for name in _shown(summary.models.teacher)]
    titles = ("model", *shown, "dense", "rows/s", "rows", "TFLOP")
    table = Table(*titles, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, student in summary.students.items():
        for kind, model in ((f"{name} raw", student.raw), (f"{name} distilled", student.distilled)):
            table.add_row(kind, *_model_cells(model))
        for control, one in student.controls.items():
            table.add_row(f"{name} control: {control}", *_model_cells(one.model))
    table.add_row("teacher", *_model_cells(summary.models.teacher))
    for name, model in summary.baselines.items():
        table.add_row(f"baseline {name}", *_model_cells(model))
    printed(table)
    for name in summary.baselines:
        print_line(f"baseline {name}: {NAMES.get(name, name)}")
    for name, student in summary.students.items():
        for metric, transfer in student.transferability:
            note = widest_note(transfer)
            print_line(f"{name}: eta ({metric}) {_eta(transfer)}{f'; {note}' if note else ''}")
        for control, one in student.controls.items():
            for metric, transfer in one.beyond:
                print_line(f"{name}: eta beyond {control} ({metric}) {_eta(transfer)}")
        print_line(f"{name}: trained on {training_of(student.distilled)}; raw on {training_of(student.raw)}")
    for name, line in headlines(summary).items():
        print_line(f"{name}: {line.text}. {line.gains}.")
    for label, models in summary.graded.items():
        known = ", ".join(f"{name} {value:.4f}" for name, value in models.items() if value is not None)
        print_line(f"{label}: NDCG by {summary.group}: {known or 'none, no level was reached'}")
    for warning in summary.warnings:
        print_line(f"warning: {warning}")


def _eta(transfer: Transfer) -> str:
    if transfer.eta is None:
        return str(transfer.why)
    return f"{transfer.eta:+.3f} ({transfer.low:+.3f} ... {transfer.high:+.3f}){lost_note(transfer)}"


def _shown(model: ModelSummary) -> list[str]:
    return [name for name in model.metrics if name != "ece"]


def _model_cells(model: ModelSummary) -> list[str]:
    def cell(name: str, form: str) -> str:
        value = getattr(model, name)
        return "-" if value is None else format(value, form)

    return [cell(name, ".4f") for name in _shown(model)] + [
        cell("dense_parameters", ",.0f"),
        cell("rows_per_second", ",.0f"),
        cell("rows_learned", ",.0f"),
        "-" if model.flops is None else f"{model.flops / 1e12:,.3g}",
    ]
