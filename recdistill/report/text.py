"""How the report writes numbers, names, moments and what is missing; every text of the user's is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

from recdistill.evaluate.summary import LABELS, ModelSummary, StudentSummary, Summary

__all__ = [
    "MODELS",
    "colour",
    "count",
    "legend_order",
    "label",
    "legend",
    "missing",
    "moment",
    "number",
    "percent",
    "shape",
    "shapes",
    "three_models",
    "title",
    "why_note",
]

MODELS = ("raw", "distilled", "teacher")  # the order of every strip and table: from the baseline to the goal
FURTHER = ("c-other1", "c-other2", "c-other3")


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """Return `value` with a real minus sign; None is a dash."""
    return "–" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share as `62 %` with a narrow space that does not break; None is a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f}\u202f%".replace("-", "−")


def missing(why: str | None) -> str:
    """Return a dash that carries its reason, shown on hover and to screen readers."""
    reason = escape(why or "not measured")
    return f'<abbr class="none" title="{reason}">–<span class="sr"> ({reason})</span></abbr>'


def moment(time: datetime) -> str:
    """Return `2 Mar 2026 09:30`, in the time's own zone (UTC in a Summary)."""
    return f"{time.day} {time:%b %Y %H:%M}"


def why_note(reasons: Iterable[str | None]) -> str:
    """Return the reasons behind a block's dashes as a note, for paper and touch screens."""
    given = "; ".join(dict.fromkeys(escape(r) for r in reasons if r))
    return f'<p class="note">Without a number: {given}.</p>' if given else ""


def count(value: float) -> str:
    """Return a count with narrow spaces between thousands, or in millions, billions, tera, peta or exa."""
    for unit, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g}\u202f{name}"
    return f"{value:,.0f}".replace(",", "\u202f")


def three_models(summary: Summary, student: StudentSummary) -> list[tuple[str, ModelSummary]]:
    """Return a student's three models by name, in the order of MODELS."""
    return [
        ("raw", student.raw),
        ("distilled", student.distilled),
        ("teacher", student.teacher or summary.models.teacher),
    ]


def legend_order(names: Iterable[str]) -> list[str]:
    """Return model `names` in the order of a legend: the teacher first, then those of other names as they came."""
    given = list(names)
    return [n for n in reversed(MODELS) if n in given] + [n for n in given if n not in MODELS]


def label(name: str) -> str:
    """Return what a model is called on the page; not escaped."""
    return LABELS[name] if name in MODELS else name


def colour(name: str, order: Sequence[str]) -> str:
    """Return the CSS class of model `name`; further models share the colours of FURTHER, by their place in `order`."""
    if name in MODELS:
        return f"c-{name}"
    others = [n for n in order if n not in MODELS]
    return FURTHER[others.index(name) % len(FURTHER)]


def title(summary: Summary, text: str, name: str) -> str:
    """Return a section's heading, with the student's name where the run has several."""
    return f"<h2>{text}{f' <small>{escape(name)}</small>' if len(summary.students) > 1 else ''}</h2>"


def legend(names: Sequence[str]) -> str:
    """Return the legend of models' lines."""
    return swatches([(label(name), colour(name, names)) for name in names])


def swatches(entries: Sequence[tuple[str, str]]) -> str:
    """Return the legend of lines, each (what it is called, its colour class)."""
    swatch = '<svg viewBox="0 0 28 8" aria-hidden="true"><path class="line {}" d="M1 4H27"/></svg>'
    return f'<p class="legend">{"".join(f"<span>{swatch.format(of)}{escape(text)}</span>" for text, of in entries)}</p>'


def shape(name: str) -> str:
    """Return the dot that stands for model `name`: its colour and its form, for those who see no colour."""
    return f'<b class="dot inline c-{name}"></b>'


def shapes() -> str:
    """Return the legend of dots."""
    return f'<p class="legend">{"".join(f"<span>{shape(n)}{LABELS[n]}</span>" for n in MODELS)}</p>'
