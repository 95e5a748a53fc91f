"""Charts as pure functions from numbers to HTML: lines in inline SVG, labels in HTML around it, no JavaScript.

The lines stretch with the page while text keeps its size, so one chart serves a phone, a screen and a sheet of paper,
and colours follow the reader's light or dark theme through CSS (`.c-teacher`, `.c-raw`, `.c-distilled`, ...). Positions
inside a plot are percentages: x from the left, y from the top.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

__all__ = [
    "LEAST",
    "Axis",
    "Point",
    "Series",
    "bar",
    "dots",
    "line_chart",
    "linear_axis",
    "log_axis",
    "scatter_chart",
    "ticks",
    "time_axis",
    "whisker",
]

Value = float | None
LEAST = 1e-6  # what a logarithmic axis can show


@dataclass(frozen=True)
class Series:
    """One line: what it is called, its CSS colour class, and y over x; None breaks the line."""

    label: str
    colour: str
    x: Sequence[float]
    y: Sequence[Value]


@dataclass(frozen=True)
class Point:
    """A labelled dot at `value` with its CSS colour class."""

    label: str
    colour: str
    value: float


@dataclass(frozen=True)
class Axis:
    """From numbers to percentages: `place(value)` in 0..100 inside [low, high], and the ticks as (value, text)."""

    low: float
    high: float
    marks: list[tuple[float, str]]
    scale: Callable[[float], float] = float

    def place(self, value: float) -> float:
        """Return where `value` lies, in per cent of the axis; values outside it stay outside 0..100."""
        low, high = self.scale(self.low), self.scale(self.high)
        return 50.0 if high == low else 100.0 * (self.scale(value) - low) / (high - low)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) that cover [low, high] in about `about` steps."""
    span = max(high - low, 1e-6 * max(abs(low), abs(high)))  # closer than that, the marks would have equal texts
    span = span if span > 1e-9 else 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def linear_axis(values: Sequence[Value], about: int = 4, zero: bool = False) -> Axis:
    """Return an axis with round ends around `values`; `zero` makes it start at or include 0."""
    known = [v for v in values if v is not None] + ([0.0] if zero else [])
    marks = ticks(min(known, default=0.0), max(known, default=1.0), about)
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))
    return Axis(marks[0], marks[-1], [(m, f"{m:.{digits}f}".replace("-", "−")) for m in marks])


def log_axis(values: Sequence[float]) -> Axis:
    """Return a logarithmic axis over whole powers of ten around `values`; what is below LEAST is shown there."""
    first = math.floor(_log(min(values)))
    last = max(math.ceil(_log(max(values))), first + 1)
    return Axis(10.0**first, 10.0**last, [(10.0**i, f"{10.0**i:g}") for i in range(first, last + 1)], _log)


def _log(value: float) -> float:
    return math.log10(max(value, LEAST))


def time_axis(seconds: Sequence[float], about: int = 4) -> Axis:
    """Return an axis over epoch `seconds`, marked at up to `about` places, written in UTC."""
    low, high = min(seconds), max(seconds)
    days = (high - low) / 86_400
    at = [low + (high - low) * i / (about - 1) for i in range(about)] if high > low else [low]
    if about < days < 300:  # whole days, so that a label is not hours away from its place
        at = sorted({t - t % 86_400 for t in at if t - t % 86_400 >= low} | {low})
    return Axis(low, high, [(t, _when(datetime.fromtimestamp(t, UTC), days, about)) for t in at])


def _when(time: datetime, days: float, about: int) -> str:
    if days >= 300:
        return f"{time:%b %Y}"
    day = f"{time.day} {time:%b}"
    return day if days > about else f"{day} {time:%H:%M}" if days > 0.9 else f"{time:%H:%M}"


def _path(points: list[tuple[float, float] | None]) -> str:
    """Return the SVG path through percentages; None lifts the pen."""
    parts, down = [], False
    for point in points:
        if point is None:
            down = False
            continue
        parts.append(f"{'L' if down else 'M'}{point[0]:.2f} {point[1]:.2f}")
        down = True
    return "".join(parts)


def _grid(x: Axis, y: Axis) -> str:
    rows = "".join(f'<i class="gy" style="top:{100 - y.place(v):.2f}%"></i>' for v, _ in y.marks)
    left = "".join(f'<span style="top:{100 - y.place(v):.2f}%">{escape(text)}</span>' for v, text in y.marks)
    below = "".join(
        f'<span{_edge(x.place(v))} style="left:{x.place(v):.2f}%">{escape(text)}</span>' for v, text in x.marks
    )
    return f'<div class="ay">{left}</div><div class="ax">{below}</div><div class="grid">{rows}</div>'


def _edge(place: float) -> str:
    """Return the class that keeps a label at the right edge inside the page."""
    return ' class="end"' if place > 92 else ""


def _frame(x: Axis, y: Axis, inside: str, over: str, names: tuple[str, str], title: str, kind: str = "") -> str:
    svg = f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{inside}</svg>'
    return (
        f'<div class="chart {kind}" role="img" aria-label="{escape(title)}"><div class="yname">{escape(names[1])}</div>'
        f'{_grid(x, y)}<div class="plot">{svg}{over}</div><div class="xname">{escape(names[0])}</div></div>'
    )


def _dot(colour: str, x: float, y: float) -> str:
    return f'<b class="dot {escape(colour)}" style="left:{x:.2f}%;top:{y:.2f}%"></b>'


def line_chart(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    readouts: Sequence[str],
    names: tuple[str, str],
    title: str,
    marks: Sequence[float] = (),
) -> str:
    """Return lines over a shared x, with one readout (safe HTML) per x shown while that part is pointed at or touched.

    `names` are the axes' names; every series has the same x, in increasing order, of the readouts' length; marks: x
    with a dashed line from top to bottom.
    """
    lines, spots = [f'<path class="diagonal" d="M{x.place(mark):.2f} 0V100"/>' for mark in marks], []
    for one in series:
        at = [None if v is None else (x.place(t), 100 - y.place(v)) for t, v in zip(one.x, one.y, strict=True)]
        lines.append(f'<path class="line {escape(one.colour)}" d="{_path(at)}"/>')
        spots += [_dot(one.colour, *point) for i, point in enumerate(at) if point and _alone(at, i)]
    where = [x.place(t) for t in series[0].x]
    edges = [0.0, *((a + b) / 2 for a, b in zip(where, where[1:], strict=False)), 100.0]
    hits = "".join(
        f'<div class="hit" tabindex="-1" style="flex:0 0 {edges[i + 1] - edges[i]:.3f}%"><p>{text}</p></div>'
        for i, text in enumerate(readouts)
    )
    return _frame(x, y, "".join(lines), f'{"".join(spots)}<div class="hits">{hits}</div>', names, title)


def _alone(points: list[tuple[float, float] | None], i: int) -> bool:
    """Return whether point i has no neighbour to draw a line to, so that only a dot can show it."""
    return (i == 0 or points[i - 1] is None) and (i + 1 == len(points) or points[i + 1] is None)


def scatter_chart(
    series: Sequence[Series], x: Axis, y: Axis, names: tuple[str, str], title: str, level: float | None = None
) -> str:
    """Return a square plot of dots joined by lines, with a dashed line along the diagonal, or at y = `level`."""
    ideal = "M0 100L100 0" if level is None else f"M0 {100 - y.place(level):.2f}H100"
    lines, spots = [f'<path class="diagonal" d="{ideal}"/>'], []
    for one in series:
        at = [None if v is None else (x.place(u), 100 - y.place(v)) for u, v in zip(one.x, one.y, strict=True)]
        lines.append(f'<path class="line thin {escape(one.colour)}" d="{_path(at)}"/>')
        spots += [_dot(one.colour, *point) for point in at if point]
    return _frame(x, y, "".join(lines), "".join(spots), names, title, "square")


def whisker(value: float, low: Value, high: Value, axis: Axis, marks: Sequence[float] = (0.0, 1.0)) -> str:
    """Return a dot with its interval on one strip, with vertical lines at `marks`; where it leaves the axis it is cut,
    and an arrow at that end marks it.
    """
    lines = "".join(f'<i class="mark" style="left:{_clip(axis.place(m)):.2f}%"></i>' for m in marks)
    if low is not None and high is not None:
        start, end = _clip(axis.place(low)), _clip(axis.place(high))
        lines += f'<i class="span" style="left:{start:.2f}%;width:{end - start:.2f}%"></i>'
    ends = [one for one in (value, low, high) if one is not None]
    lines += _cut("left", "‹", min(ends) < axis.low) + _cut("right", "›", max(ends) > axis.high)
    return f'<div class="strip">{lines}{_dot("c-distilled", _clip(axis.place(value)), 50)}</div>'


def _cut(side: str, arrow: str, beyond: bool) -> str:
    """Return the mark of a strip that goes on beyond its end; empty where it does not."""
    return f'<i class="cut {side}" title="goes on beyond the scale">{arrow}</i>' if beyond else ""


def _clip(place: float) -> float:
    return min(100.0, max(0.0, place))


def dots(points: Sequence[Point], axis: Axis) -> str:
    """Return labelled dots on one strip, joined from the first to the last known one."""
    at = [axis.place(p.value) for p in points]
    span = f'<i class="join" style="left:{min(at):.2f}%;width:{max(at) - min(at):.2f}%"></i>' if at else ""
    spots = "".join(
        f'<b class="dot {escape(p.colour)}" style="left:{a:.2f}%;top:50%" title="{escape(p.label)} {p.value:.4f}"></b>'
        for p, a in zip(points, at, strict=True)
    )
    return f'<div class="strip">{span}{spots}</div>'


def bar(share: float) -> str:
    """Return a bar of `share` (0..1) of its cell's width."""
    return f'<i class="bar" aria-hidden="true"><i style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></i></i>'
