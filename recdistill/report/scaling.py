"""The page of a scaling study: a figure and a table per axis."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from recdistill.evaluate.scaling_laws import AXIS_NAMES, Law, Scaling, Size, Value
from recdistill.evaluate.summary import write_atomic
from recdistill.report.charts import Axis, Series, line_chart, log_axis, ticks
from recdistill.report.page import page
from recdistill.report.text import number, swatches

__all__ = ["render", "write_scaling"]


def render(scaling: Scaling) -> str:
    """Return the page as HTML text; everything taken from `scaling` is escaped."""
    return page(
        f"Scaling: {scaling.name}",
        "scaling.html",
        name=escape(scaling.name),
        rows=f"{scaling.rows:,}".replace(",", "\u202f"),
        seeds=len(scaling.seeds),
        confidence=f"{100 * scaling.confidence:g}",
        figures="".join(
            [*(_figure(law.axis, law, scaling) for law in scaling.laws)]
            + [_figure(axis, None, scaling) for axis in scaling.no_law]
        ),
        table="".join(_row(size) for size in scaling.sizes),
    )


def _figure(axis: str, law: Law | None, scaling: Scaling) -> str:
    """Return an axis' chart, with its law or the reason why there is none."""
    sizes = sorted((size for size in scaling.sizes if size.axis == axis), key=lambda size: size.x or 0.0)
    x, y = [size.x or 0.0 for size in sizes], [size.ne.value for size in sizes]
    fitted = [] if law is None else [_by(law, at) for at in x]
    series = [Series("measured", "c-teacher", x, y), *([Series("law", "c-raw", x, fitted)] if law else [])]
    readouts = [
        f"{at:g}: NE {number(one)}" + (f", by the law {number(fitted[place])}" if law else "")
        for place, (at, one) in enumerate(zip(x, y, strict=True))
    ]
    names = (f"{AXIS_NAMES.get(axis, axis)}, log scale", "NE, log scale")
    chart = line_chart(series, log_axis(x), _close([*y, *fitted]), readouts, names, f"NE over {axis}")
    legend = swatches([("measured", "c-teacher"), *([("by the law", "c-raw")] if law else [])])
    note = f"No law: {escape(scaling.no_law[axis])}." if law is None else _formula(law)
    return f'<section><h2>{escape(axis)}</h2>{legend}{chart}<p class="note">{note}</p></section>'


def _by(law: Law, x: float) -> float:
    floor, factor, exponent = (part.value or 0.0 for part in (law.floor, law.factor, law.exponent))
    return float(floor + factor * (x / law.first) ** -exponent)


def _formula(law: Law) -> str:
    formula = (
        f"NE = {_interval(law.floor)} + {_interval(law.factor)} · ({escape(law.axis)} / {law.first:g})<sup>−a</sup>"
    )
    return f"{formula}, a = {_interval(law.exponent)}; largest error {law.error:.5f}; {law.in_words}."


def _close(values: Sequence[float | None]) -> Axis:
    """Return a logarithmic axis close around the values, marked at round numbers."""
    known = [value for value in values if value is not None]
    marks = [mark for mark in ticks(min(known), max(known), 4) if mark > 0]
    return Axis(marks[0], marks[-1], [(mark, f"{mark:.4g}") for mark in marks], lambda value: float(np.log(value)))


def _interval(one: Value) -> str:
    return number(one.value) if one.low is None else f"{number(one.value)} ({number(one.low)} to {number(one.high)})"


def _row(size: Size) -> str:
    changed = ", ".join(f"{key}: {value}" for key, value in size.changes.items())
    speed = "–" if size.rows_per_second is None else f"{size.rows_per_second:,.0f}"
    cells = [
        _interval(size.gauc),
        _interval(size.auc),
        _interval(size.ne),
        *("–" if one is None else _interval(one) for one in (size.gain, size.ne_new_items)),
        *("–" if count is None else f"{count:,}" for count in (size.dense_parameters, size.flops)),
        speed,
    ]
    data = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th>{escape(size.name)}<small>{escape(changed)}</small></th>{data}</tr>"


def write_scaling(scaling: Scaling, folder: Path) -> None:
    """Write scale.json and scale.html into `folder`, each atomically; UserError when that cannot be done."""
    html = render(scaling)  # before anything is written
    write_atomic(scaling.model_dump_json(indent=2) + "\n", folder / "scale.json")
    write_atomic(html, folder / "scale.html")
