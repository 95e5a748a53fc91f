"""The report's warnings, and the baselines that every model should beat; every text of the user's is escaped."""

from __future__ import annotations

from html import escape

from recdistill.evaluate.baselines import NAMES
from recdistill.evaluate.summary import LABELS, ModelSummary, Summary
from recdistill.report.text import missing, number

__all__ = ["baselines", "warnings"]

SHOWN = ("auc", "gauc", "logloss", "ne", "calibration")


def warnings(summary: Summary) -> str:
    """Return the summary's warnings as a list; empty without any."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in summary.warnings)
    return f'<ul class="warnings">{lines}</ul>' if lines else ""


def baselines(summary: Summary) -> str:
    """Return the section that compares the baselines with the teacher and the students; empty without any."""
    if not summary.baselines:
        return ""
    models = [(f"Baseline: {NAMES.get(name, name)}", one) for name, one in summary.baselines.items()]
    models.append(("Teacher", summary.models.teacher))
    for name, student in summary.students.items():
        if not student.domain:
            models += [(f"{name}, distilled", student.distilled), (f"{name}, raw", student.raw)]
    head = "".join(f"<th>{LABELS[metric]}</th>" for metric in SHOWN)
    body = "".join(_row(name, model) for name, model in models)
    intro = (
        "Simple models on the same impressions: how many earlier outcomes user and item had, and how many were "
        "positive. A model below them has not learned what two counters know."
    )
    table = f'<table class="cost"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<section><h2>Baselines</h2><p class="intro">{intro}</p>{table}</section>'


def _row(name: str, model: ModelSummary) -> str:
    values = [(metric, model.metric(metric)) for metric in SHOWN]
    cells = "".join(
        f'<td data-name="{LABELS[metric]}">{missing(model.why.get(metric)) if value is None else number(value)}</td>'
        for metric, value in values
    )
    return f"<tr><th>{escape(name)}</th>{cells}</tr>"
