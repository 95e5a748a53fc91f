"""The report's controls: what part of eta is the teacher's; every text of the user's is escaped."""

from __future__ import annotations

from html import escape

from recdistill.config.experiment import ControlName
from recdistill.evaluate.summary import LABELS, ModelSummary, StudentSummary, Summary, Transfer
from recdistill.report.text import missing, number, percent

__all__ = ["NO_CONTROL", "controls", "share"]

WHAT: dict[ControlName, str] = {
    "self": "distilled by a raw student of its own kind",
    "compute": "raw, with as many rows to learn as the distilled one",
}
NO_CONTROL = "none: whether a teacher of the student's own size would give as much is not known (controls: [self])"


def controls(summary: Summary) -> str:
    """Return the section that compares each student with its controls; empty without any."""
    body = "".join(_student(name, student) for name, student in summary.students.items() if student.controls)
    if not body:
        return ""
    head = "".join(f"<th>{LABELS[metric]}</th><th>eta beyond it</th>" for metric in summary.models.teacher.etas)
    intro = (
        "Distillation may help without a better teacher. Eta beyond a control is (distilled \u2212 control) / (teacher "
        f"\u2212 raw), with its {100 * summary.confidence:g}\u202f% interval: what a larger teacher added."
    )
    table = f'<table class="cost"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<section><h2>Controls</h2><p class="intro">{intro}</p>{table}</section>'


def _student(name: str, student: StudentSummary) -> str:
    rows = [_row(f"{name}, distilled", student.distilled, {})]
    for control, one in student.controls.items():
        rows.append(_row(f"{name}, {WHAT[control]}", one.model, dict(one.beyond)))
    return "".join(rows)


def _row(name: str, model: ModelSummary, beyond: dict[str, Transfer]) -> str:
    cells = (
        f'<td data-name="{LABELS[metric]}">{_metric(model, metric)}</td>'
        f'<td data-name="eta beyond it">{share(beyond[metric]) if beyond else ""}</td>'
        for metric in model.etas
    )
    return f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>"


def _metric(model: ModelSummary, metric: str) -> str:
    value = model.metric(metric)
    return missing(model.why.get(metric)) if value is None else number(value)


def share(eta: Transfer) -> str:
    """Return eta with its interval in a cell, or a dash with the reason."""
    if eta.eta is None:
        return missing(eta.why)
    return f"{percent(eta.eta)} <small>{percent(eta.low)} to {percent(eta.high)}</small>"
