"""`report.html`: one self-contained page from a Summary; no JavaScript, no network, fit for a phone and for paper.

The page holds no script at all, and its content security policy forbids the browser to load anything. Plotly was tried
and left out: printed, its charts keep the screen's width and lose their legend; on a phone they scroll sideways; they
do not follow the reader's theme, and 4.8 MB travel with each report (this page: about 90 kB).
"""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files
from string import Template

from recdistill.evaluate.headline import Headline, headlines, primary_metric
from recdistill.evaluate.summary import LABELS, StudentSummary, Summary, write_atomic
from recdistill.report import cautions, plots, tables
from recdistill.report.controls import controls
from recdistill.report.data import data
from recdistill.report.rules import rules
from recdistill.report.shadows import shadows
from recdistill.report.text import number, title
from recdistill.storage.location import Location

__all__ = ["framed", "house_style", "page", "render", "write_report"]

BADGES = {
    "claim": "Transfer shown",
    "mixed": "Mixed",
    "unclear": "Not certain",
    "harm": "Harm shown",
    "none": "No claim",
}


def _template(name: str = "report_template.html") -> str:
    return files("recdistill.report").joinpath(name).read_text(encoding="utf-8")


def house_style() -> str:
    """Return the report's style sheet, which other pages share."""
    return _template().partition("<style>")[2].partition("</style>")[0].replace("$hidden", "")


def page(heading: str, body: str, **parts: object) -> str:
    """Return another page in the report's style: `body` is the template of what it shows, `parts` fill it
    and are safe HTML.
    """
    return framed(heading, Template(_template(body)).substitute(parts))


def framed(heading: str, body: str) -> str:
    """Return a page in the report's style that shows `body`, safe HTML."""
    return Template(_template("page.html")).substitute(title=escape(heading), style=house_style(), body=body)


def _badge(headline: Headline) -> str:
    return f'<span class="badge {headline.kind}">{BADGES[headline.kind]}</span>'


def _headlines(shown: dict[str, Headline]) -> str:
    """Return the headline of each student with the teacher's gains, and its name where there are several."""
    if len(shown) == 1:
        only = next(iter(shown.values()))
        return f'<h1>{_typeset(only.text)}</h1><p class="gains">{_typeset(only.gains)}</p>'
    lines = (
        f"<span>{_badge(one)}<b>{escape(name)}</b> {_typeset(one.text)}<small>{_typeset(one.gains)}</small></span>"
        for name, one in shown.items()
    )
    return f'<h1 class="several">{"".join(lines)}</h1>'


def _switch(summary: Summary) -> str:
    """Return the choice of the student that the page shows; empty with one. On paper all are shown."""
    if len(summary.students) == 1:
        return ""
    fields = (
        f'<input type="radio" name="student" id="student-{i}"{" checked" * (not i)}>'
        f'<label for="student-{i}">{escape(name)}</label>'
        for i, name in enumerate(summary.students)
    )
    return f'<div class="switch"><span>Details of</span>{"".join(fields)}</div>'


def _hidden(summary: Summary) -> str:
    """Return the CSS that hides the students who are not chosen; a browser too old for it shows them all."""
    rules = (f"main:has(#student-{i}:not(:checked)) .of-{i}{{display:none}}" for i in range(len(summary.students)))
    return f"@media screen {{{''.join(rules)}}}" if len(summary.students) > 1 else ""


def _lead(summary: Summary, name: str, student: StudentSummary, metric: str) -> str:
    """Return the paragraph above a student's numbers: the three it rests on, in words."""
    teacher, raw, distilled = (
        m.metric(metric) for m in (student.teacher or summary.models.teacher, student.raw, student.distilled)
    )
    rows = f"{summary.rows if student.rows is None else student.rows:,}".replace(",", "\u202f")
    where = "".join(f" with {escape(feature)} {escape(str(value))}" for feature, value in student.domain.items())
    return (
        f"On {rows} impressions{where}, each predicted before its outcome was learned, student <b>{escape(name)}</b> "
        f"scores {LABELS[metric]} {number(raw)} on labels alone and {number(distilled)} with the teacher’s signals; "
        f"the teacher scores {number(teacher)}."
    )


def _numbers(summary: Summary, place: int, name: str, student: StudentSummary, metric: str) -> str:
    """Return a student's lead paragraph, the strip from raw student to teacher, and cards."""
    return (
        f'<div class="of-{place}"><p class="lead">{_lead(summary, name, student, metric)}</p>'
        f"{plots.gain_strip(summary, student, metric)}"
        f'<div class="cards">{tables.cards(summary, student, metric)}</div></div>'
    )


def _details(summary: Summary, place: int, name: str, student: StudentSummary, metric: str) -> str:
    """Return a student's curves, calibration and slices."""
    parts = (
        (
            "Over time",
            "Each point scores the impressions of one stretch of time by the predictions that the models made "
            "before they learned from them.",
            plots.curves(student, metric, place),
        ),
        (
            "Calibration",
            "Impressions are grouped by predicted rate; each dot is one group. Of the first seed.",
            plots.calibration(student),
        ),
        ("Where it arrived", "", tables.slices(summary, student, metric)),
    )
    return "".join(
        f'<section class="of-{place}">{title(summary, head, name)}'
        f"{f'<p class=intro>{intro}</p>' if intro else ''}{body}</section>"
        for head, intro, body in parts
    )


def _typeset(sentence: str) -> str:
    """Return a plain sentence as HTML with the right dash, apostrophe and spaces."""
    sentence = re.sub(r"interval (\d+)-(\d+) %", "interval \\1–\\2 %", sentence)
    sentence = re.sub(r"(?<![\w.])-(?=\d)", "−", sentence)
    return escape(sentence.replace("'", "’"), quote=False).replace(" %", "\u202f%")


def render(summary: Summary) -> str:
    """Return the whole page as HTML text; everything taken from `summary` is escaped."""
    shown, metric = headlines(summary), primary_metric(summary)
    students = [(summary, i, name, student, metric) for i, (name, student) in enumerate(summary.students.items())]
    return Template(_template()).substitute(
        name=escape(summary.name),
        created=f"{summary.created.day} {summary.created:%B %Y, %H:%M} UTC",
        badges=", ".join(dict.fromkeys(BADGES[one.kind] for one in shown.values())),
        badge=_badge(next(iter(shown.values()))) if len(shown) == 1 else "",
        headline=_headlines(shown),
        warnings=cautions.warnings(summary),
        controls=controls(summary),
        shadows=shadows(summary),
        baselines=cautions.baselines(summary),
        switch=_switch(summary),
        hidden=_hidden(summary),
        numbers="".join(_numbers(*student) for student in students),
        transfer=tables.transfer(summary),
        details="".join(_details(*student) for student in students),
        tasks=tables.tasks(summary, metric),
        cost=tables.cost(summary),
        rules=rules(summary),
        data=data(summary),
        measured=tables.measured(summary),
    )


def write_report(summary: Summary, path: Location) -> None:
    """Write the page to `path`, atomically; raises UserError when it cannot be written."""
    write_atomic(render(summary), path)
