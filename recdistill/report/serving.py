"""The page of a measured server: latencies over the rate of requests, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from recdistill.evaluate.summary import write_atomic
from recdistill.report.charts import Series, line_chart, linear_axis, log_axis
from recdistill.report.page import page
from recdistill.report.text import swatches
from recdistill.serve.bench import QUANTILES, Step
from recdistill.serve.bench_run import Found, in_budget

__all__ = ["render", "write_page"]

NAMES = [f"p{100 * one:g}" for one in QUANTILES]
COLOURS = ("c-raw", "c-distilled", "c-teacher", "c-other1")


def render(found: Found) -> str:
    """Return the page as HTML text; everything taken from `found` is escaped."""
    top = "" if found.most is None else f" At most {found.most:,.0f} requests a second are answered."
    return page(
        f"Serving {found.model}",
        "serving.html",
        model=escape(found.model),
        lead=escape(f"{found.requests}.{top} {in_budget(found)}."),
        legend=swatches(list(zip(NAMES, COLOURS, strict=True))),
        chart=_chart(found.steps),
        sender=f"The sender alone can send at least {found.sender:,.0f} requests a second.",
        heads="".join(f"<th>{name} ms</th>" for name in NAMES),
        rows="".join(map(_row, found.steps)),
    )


def _chart(steps: Sequence[Step]) -> str:
    rates = [one.rate for one in steps]
    columns = list(zip(*(one.latency for one in steps), strict=True))
    series = [Series(name, of, rates, column) for name, of, column in zip(NAMES, COLOURS, columns, strict=True)]
    known = [ms for column in columns for ms in column if ms is not None]
    readouts = [f"{one.rate:,.0f}/s: {', '.join(map(_named, NAMES, one.latency))}" for one in steps]
    axes = linear_axis(rates, zero=True), log_axis(known or [1.0])
    return line_chart(series, *axes, readouts, ("requests a second", "ms, log scale"), "latency over the rate")


def _named(name: str, ms: float | None) -> str:
    return f"{name} {_ms(ms)}"


def _ms(ms: float | None) -> str:
    return "–" if ms is None else f"{ms:.2f}"


def _row(one: Step) -> str:
    failed = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(one.failures.items())) or "none"
    cells = [f"{one.answered:,.0f}", *map(_ms, one.latency), _ms(one.lag), escape(failed), escape(one.notes)]
    return f"<tr><th>{one.rate:,.0f}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def write_page(found: Found, path: Path) -> None:
    """Write the page to `path`, atomically; UserError when that cannot be done."""
    write_atomic(render(found), path)
