"""`report.html`: one self-contained page from a Summary; no JavaScript, no network, fit for a phone and for paper.

The page holds no script at all, and its content security policy forbids the browser to load anything. Plotly was tried
and left out: printed, its charts keep the screen's width and lose their legend; on a phone they scroll sideways; they
do not follow the reader's theme, and 4.8 MB travel with each report (this page: about 60 kB).
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from recdistill.evaluate import report_parts as parts
from recdistill.evaluate.report_parts import Verdict, headline
from recdistill.evaluate.summary import LABELS, Summary, write_atomic

__all__ = ["Verdict", "headline", "render", "write_report"]

KINDS = {"claim": "Transfer shown", "unclear": "Not certain", "harm": "Harm shown", "none": "No claim"}


def _lead(summary: Summary, metric: str) -> str:
    """Return the paragraph under the headline: the three numbers it rests on, in words."""
    teacher, raw, distilled = (m.metric(metric) for m in (summary.models.teacher, summary.models.raw, summary.models.distilled))
    rows = f"{summary.rows:,}".replace(",", "\u202f")
    student = escape(next(iter(summary.students)))
    return (
        f"On {rows} impressions, each predicted before its outcome was learned, student <b>{student}</b> scores "
        f"{LABELS[metric]} {parts.number(raw)} on labels alone and {parts.number(distilled)} with the teacher’s signal; "
        f"the teacher scores {parts.number(teacher)}."
    )


def render(summary: Summary) -> str:
    """Return the whole page as HTML text; everything taken from `summary` is escaped."""
    verdict = headline(summary)
    template = files("recdistill.evaluate").joinpath("report_template.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        name=escape(summary.name),
        created=escape(summary.created.strftime("%-d %B %Y, %H:%M %Z").strip()),
        kind=verdict.kind,
        badge=KINDS[verdict.kind],
        headline=escape(verdict.text, quote=False).replace(" %", "\u202f%"),
        lead=_lead(summary, verdict.metric),
        ladder=parts.ladder(summary, verdict.metric),
        cards=parts.cards(summary, verdict.metric),
        transfer=parts.transfer(summary),
        curves=parts.curves(summary, verdict.metric),
        signals=parts.signals(summary),
        calibration=parts.calibration(summary),
        slices=parts.slices(summary, verdict.metric),
        tasks=parts.tasks(summary),
        cost=parts.cost(summary),
        measured=parts.measured(summary),
    )


def write_report(summary: Summary, path: Path) -> None:
    """Write the page to `path`, atomically; raises UserError when it cannot be written."""
    write_atomic(render(summary), path)
