"""The page of a loop: how good a student's lists are while it serves and learns, between random ones and the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from recdistill.evaluate.closed_loop import LoopPoint, LoopSummary, share_of_best
from recdistill.evaluate.summary import write_atomic
from recdistill.report.charts import Series, line_chart, linear_axis
from recdistill.report.page import page
from recdistill.report.text import count, number, percent, swatches

__all__ = ["render", "write_loop"]

MAX_POINTS = 40  # of a chart: rounds are few requests, and their noise hides the line
NAMES = {"student": "learns while it serves", "frozen": "frozen: the first version for ever"}
COLOURS = {"student": "c-distilled", "frozen": "c-raw", "best": "c-teacher", "random": "c-raw"}


def together(points: Sequence[LoopPoint]) -> LoopPoint:
    """Return rounds of as many requests each as one point."""

    def mean(columns: Sequence[dict[str, float]]) -> dict[str, float]:
        return {name: sum(column[name] for column in columns) / len(columns) for name in columns[0]}

    return LoopPoint(
        points[-1].requests,
        sorted({version for point in points for version in point.versions}),
        mean([point.clicks for point in points]),
        sum(point.happened for point in points) / len(points),
        mean([point.gauc for point in points]),
        sum(point.away for point in points),
    )


def grouped(points: Sequence[LoopPoint]) -> list[LoopPoint]:
    """Return at most MAX_POINTS points."""
    size = -(-len(points) // MAX_POINTS)
    return [together(points[at : at + size]) for at in range(0, len(points), size)]


def render(loop: LoopSummary) -> str:
    """Return the page as HTML text; everything taken from `loop` is escaped."""
    points, last = grouped(loop.points), together(loop.points[-max(len(loop.points) // 4, 1) :])
    return page(
        f"Loop: {loop.name}",
        "loop.html",
        name=escape(loop.name),
        model=escape(loop.model),
        requests=count(loop.points[-1].requests),
        candidates=loop.candidates,
        shown=loop.shown,
        swaps=len(loop.swaps),
        student=percent(last.share("student")),
        frozen=percent(last.share("frozen")),
        legend=swatches([(NAMES[whose], COLOURS[whose]) for whose in NAMES]),
        share=_chart(loop, points, "share of the best order's gain", lambda point, whose: point.share(whose)),
        gauc=_chart(loop, points, "GAUC by request", lambda point, whose: point.gauc[whose]),
        table="".join(_row(*one) for one in _versions(loop)),
    )


def _chart(loop: LoopSummary, points: Sequence[LoopPoint], name: str, value: object) -> str:
    x = [float(point.requests) for point in points]
    lines = {whose: [value(point, whose) for point in points] for whose in NAMES}  # type: ignore[operator]
    series = [Series(NAMES[whose], COLOURS[whose], x, lines[whose]) for whose in NAMES]
    readouts = [
        f"{count(at)} requests, version {point.versions[-1]}: {number(lines['student'][k], 3)}, frozen "
        f"{number(lines['frozen'][k], 3)}; clicks a list {point.clicks['student']:.3f}, "
        f"best {point.clicks['best']:.3f}, random {point.clicks['random']:.3f}"
        for k, (at, point) in enumerate(zip(x, points, strict=True))
    ]
    axis = linear_axis([one for values in lines.values() for one in values])
    marks = [float(before) for before, _ in loop.swaps if x[0] <= before <= x[-1]]
    return line_chart(series, linear_axis(x, 5), axis, readouts, ("requests answered", name), name, marks)


def _versions(loop: LoopSummary) -> list[tuple[int, int, LoopPoint]]:
    """Return (version, requests before, its rounds as one) of every version that answered whole rounds."""
    alone: dict[int, list[LoopPoint]] = {}
    for point in loop.points:
        if len(point.versions) == 1:
            alone.setdefault(point.versions[0], []).append(point)
    before = dict((version, at) for at, version in loop.swaps)
    return [(version, before.get(version, 0), together(points)) for version, points in sorted(alone.items())]


def _row(version: int, before: int, point: LoopPoint) -> str:
    shares = [
        percent(share_of_best(point.clicks[whose], point.clicks["random"], point.clicks["best"])) for whose in NAMES
    ]
    cells = [
        count(before),
        *(f"{point.clicks[whose]:.3f}" for whose in ("random", "frozen", "student", "best")),
        *shares,
        *(number(point.gauc[whose]) for whose in NAMES),
    ]
    return f"<tr><th>{version}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def write_loop(loop: LoopSummary, folder: Path) -> None:
    """Write loop.json and loop.html into `folder`, each atomically; UserError when that cannot be done."""
    html = render(loop)  # before anything is written
    write_atomic(json.dumps(asdict(loop), indent=1) + "\n", folder / "loop.json")
    write_atomic(html, folder / "loop.html")
