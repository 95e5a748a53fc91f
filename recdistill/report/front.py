"""The picture of a choice: quality against latency and against bytes, raw and distilled, as one SVG file.

It has a white ground of its own, so it is as readable on a dark page as on a light one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from recdistill.evaluate.choice import Choice, Cost
from recdistill.evaluate.summary import LABELS
from recdistill.report.charts import Axis, linear_axis

__all__ = ["Scored", "front_svg", "scored"]

WIDTH, HEIGHT = 760, 320
LEFTS, TOP, WIDE, HIGH = (70, 440), 60, 290, 190  # of the two plots
COLOURS = {"distilled": "#2f7d4f", "raw": "#b5562b"}


class Scored(NamedTuple):
    """A student, raw or distilled, as it would be served: its metric, and what serving it takes."""

    name: str
    kind: str
    score: float
    cost: Cost


def scored(choice: Choice) -> list[Scored]:
    """Return the students that learned from all rows: the distilled one as its artefact is, with the smaller rows where
    it has them; the raw one with its rows as they are, for so it was scored.
    """
    last = [one for one in choice.tried if one.left_out is None]
    found = [
        dot
        for one in last
        for dot in ((one.name, "raw", one.raw, one.cost.plain), (one.name, "distilled", one.served, one.cost))
    ]
    return [Scored(name, kind, score, cost) for name, kind, score, cost in found if score is not None]


def front_svg(choice: Choice) -> str:
    """Return the picture of the students that learned from all rows; the dashed line is the teacher."""
    dots, label = scored(choice), LABELS[choice.metric]
    y = linear_axis([choice.teacher, *(dot.score for dot in dots)])
    costs: list[tuple[str, Callable[[Cost], float]]] = [
        (f"p99 of {choice.candidates} candidates, ms", lambda cost: cost.latency_ms),
        ("MiB of the artefact", lambda cost: cost.memory_mib),
    ]
    plots = [
        _plot(left, dots, [cost(dot.cost) for dot in dots], y, name, choice.teacher)
        for left, (name, cost) in zip(LEFTS, costs, strict=True)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="#222"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="20" y="28" font-size="14" font-weight="bold">{label} against what serving takes</text>'
        f"{_legend()}{''.join(plots)}</svg>\n"
    )


def _legend() -> str:
    names = "".join(
        f'<circle cx="{400 + 90 * at}" cy="24" r="5" fill="{colour}"/><text x="{410 + 90 * at}" y="28">{name}</text>'
        for at, (name, colour) in enumerate(COLOURS.items())
    )
    return f'{names}<path d="M570 24h24" stroke="#555" stroke-dasharray="4 3"/><text x="600" y="28">teacher</text>'


def _plot(left: int, dots: Sequence[Scored], costs: Sequence[float], y: Axis, name: str, teacher: float | None) -> str:
    x = linear_axis(costs, zero=True)

    def across(value: float) -> float:
        return left + WIDE * x.place(value) / 100

    def down(value: float) -> float:
        return TOP + HIGH * (1 - y.place(value) / 100)

    lines = [f'<path d="M{left} {TOP}V{TOP + HIGH}H{left + WIDE}" fill="none" stroke="#888"/>']
    for value, text in y.marks:
        lines.append(f'<text x="{left - 6}" y="{down(value) + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in x.marks:
        lines.append(f'<text x="{across(value):.1f}" y="{TOP + HIGH + 18}" text-anchor="middle">{text}</text>')
    lines.append(f'<text x="{left + WIDE / 2}" y="{TOP + HIGH + 40}" text-anchor="middle">{name}</text>')
    if teacher is not None:
        lines.append(f'<path d="M{left} {down(teacher):.1f}h{WIDE}" stroke="#555" stroke-dasharray="4 3"/>')
    for dot, cost in zip(dots, costs, strict=True):
        lines.append(
            f'<circle cx="{across(cost):.1f}" cy="{down(dot.score):.1f}" r="5" fill="{COLOURS[dot.kind]}">'
            f"<title>{escape(f'{dot.name}, {dot.kind}: {dot.score:.4f}')}</title></circle>"
        )
    return "".join(lines)
