"""The report's table of what simple rules score on the log; every text is escaped."""

from __future__ import annotations

from html import escape

from recdistill.evaluate.leaks import GroupRate, Leaks
from recdistill.evaluate.summary import ModelSummary, Summary
from recdistill.report.text import count, missing, number, percent

__all__ = ["rules"]


def rules(summary: Summary) -> str:
    """Return the section; empty for a summary without the probe, or of a regression."""
    leaks = summary.leaks
    if leaks is None or not leaks.rules:
        return ""
    lines = [(one.text[:1].upper() + one.text[1:], one.auc, one.gauc) for one in leaks.rules]
    lines += [(f"Raw student {name}", *_scores(student.raw)) for name, student in summary.students.items()]
    body = "".join(_row(*line) for line in lines)
    head = f"<th></th><th>AUC</th><th>GAUC by {escape(leaks.group)}</th>"
    intro = (
        "Each rule scores a row by the mean outcome of earlier rows that it treats alike, and learns nothing else. A "
        "rule above the student, or a group of rows with one outcome only, often means that the log gives the label "
        f"away; the warnings at the top name them. {percent(leaks.users)} of the users, {count(leaks.rows)} rows."
    )
    table = f'<table class="tasks rules"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<section><h2>What simple rules score</h2><p class="intro">{intro}</p>{table}{_rates(leaks)}</section>'


def _scores(model: ModelSummary) -> tuple[float | None, float | None]:
    return model.auc, model.gauc


def _row(name: str, auc: float | None, gauc: float | None) -> str:
    cells = "".join(f"<td>{missing('one class only') if v is None else number(v)}</td>" for v in (auc, gauc))
    return f"<tr><th>{escape(name)}</th>{cells}</tr>"


def _rates(leaks: Leaks) -> str:
    """Return the rates of the groups that have rows as a note."""
    rates = "; ".join(_rate(one) for one in leaks.groups if one.rows)
    return f'<p class="note">Positive, where the base rate is {percent(leaks.base_rate, 1)}: {rates}.</p>'


def _rate(group: GroupRate) -> str:
    name = group.text[:1].lower() + group.text[1:]
    return f"{escape(name)} {percent(group.positives / group.rows, 1)} of {count(group.rows)} rows"
