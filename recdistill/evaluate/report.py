"""`report.html`: one self-contained page from a Summary; no JavaScript, no network, fit for a phone and for paper.

The page holds no script at all, and its content security policy forbids the browser to load anything. Plotly was tried
and left out: printed, its charts keep the screen's width and lose their legend; on a phone they scroll sideways; they
do not follow the reader's theme, and 4.8 MB travel with each report (this page: about 90 kB).
"""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from recdistill.evaluate import report_plots as plots
from recdistill.evaluate import report_tables as tables
from recdistill.evaluate.report_text import number
from recdistill.evaluate.summary import LABELS, Summary, write_atomic
from recdistill.evaluate.verdict import Verdict, headline

__all__ = ["Verdict", "headline", "render", "write_report"]

KINDS = {"claim": "Transfer shown", "unclear": "Not certain", "harm": "Harm shown", "none": "No claim"}


def _lead(summary: Summary, metric: str) -> str:
    """Return the paragraph under the headline: the three numbers it rests on, in words."""
    teacher, raw, distilled = (
        m.metric(metric) for m in (summary.models.teacher, summary.models.raw, summary.models.distilled)
    )
    rows = f"{summary.rows:,}".replace(",", "\u202f")
    student = escape(next(iter(summary.students)))
    return (
        f"On {rows} impressions, each predicted before its outcome was learned, student <b>{student}</b> scores "
        f"{LABELS[metric]} {number(raw)} on labels alone and {number(distilled)} with the teacher’s signal; "
        f"the teacher scores {number(teacher)}."
    )


def _typeset(sentence: str) -> str:
    """Return a plain sentence as HTML with the right dash, apostrophe and spaces."""
    sentence = re.sub(r"interval (\d+)-(\d+) %", "interval \\1–\\2 %", sentence)
    sentence = re.sub(r"(?<![\w.])-(?=\d)", "−", sentence)
    return escape(sentence.replace("'", "’"), quote=False).replace(" %", "\u202f%")


def render(summary: Summary) -> str:
    """Return the whole page as HTML text; everything taken from `summary` is escaped."""
    verdict = headline(summary)
    template = files("recdistill.evaluate").joinpath("report_template.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        name=escape(summary.name),
        created=f"{summary.created.day} {summary.created:%B %Y, %H:%M} UTC",
        kind=verdict.kind,
        badge=KINDS[verdict.kind],
        headline=_typeset(verdict.text),
        lead=_lead(summary, verdict.metric),
        ladder=plots.ladder(summary, verdict.metric),
        cards=tables.cards(summary, verdict.metric),
        transfer=tables.transfer(summary),
        curves=plots.curves(summary, verdict.metric),
        signals=plots.signals(summary),
        calibration=plots.calibration(summary),
        slices=tables.slices(summary, verdict.metric),
        tasks=tables.tasks(summary, verdict.metric),
        cost=tables.cost(summary),
        measured=tables.measured(summary),
    )


def write_report(summary: Summary, path: Path) -> None:
    """Write the page to `path`, atomically; raises UserError when it cannot be written."""
    write_atomic(render(summary), path)
