"""The report's plots of one student: its gain beside the teacher's, curves over time, calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from recdistill.evaluate.summary import ALL_METRICS, LABELS, Bin, Curve, StudentSummary, Summary
from recdistill.report.charts import (
    LEAST,
    Axis,
    Point,
    Series,
    dots,
    line_chart,
    linear_axis,
    log_axis,
    scatter_chart,
    time_axis,
)
from recdistill.report.text import colour, label, legend, legend_order, moment, number, three_models

__all__ = ["calibration", "curves", "gain_strip"]

MIN_AXIS_SPAN = 0.004  # of the gain strip: closer models should look close
LOWER_IS_BETTER = ("logloss", "ne", "ece", "kl", "mae", "rmse")


def gain_strip(summary: Summary, student: StudentSummary, metric: str) -> str:
    """Return one strip with the raw student, the distilled one and the teacher; empty if one has no `metric`."""
    known = [(name, v) for name, model in three_models(summary, student) if (v := model.metric(metric)) is not None]
    if len(known) < 3:
        return ""
    middle = sum(v for _, v in known) / len(known)
    axis = linear_axis([middle - MIN_AXIS_SPAN / 2, middle + MIN_AXIS_SPAN / 2, *(v for _, v in known)])
    text = ", ".join(f"{label(name).lower()} {number(v)}" for name, v in known)
    marks = "".join(f'<span style="left:{axis.place(v):.1f}%">{t}</span>' for v, t in axis.marks)
    strip = dots([Point(label(name), f"c-{name}", v) for name, v in known], axis)
    head = f'<div class="gain-strip" role="img" aria-label="{LABELS[metric]}: {text}">'
    return f'{head}{strip}<div class="ax">{marks}</div></div>'


def curves(student: StudentSummary, metric: str, place: int) -> str:
    """Return the progressive curves, one tab per metric with the headline's first; `place`: the student's, from 0."""
    given = {name: curve for name, curve in student.details.curves.items() if curve.time}
    found = [m for m in (*ALL_METRICS, "kl") if any(m in c.metrics for c in given.values())]
    found.sort(key=lambda m: m != metric)
    if not found:
        return '<p class="none">– This run recorded no curves.</p>'
    tabs = "".join(_tab(m, place, m == found[0]) for m in found)
    return f'<div class="tabs">{tabs}{"".join(_curve_panel(given, m) for m in found)}</div>'


def _tab(metric: str, place: int, chosen: bool) -> str:
    checked = " checked" if chosen else ""
    field = f'<input type="radio" name="curve-{place}" id="curve-{place}-{metric}"{checked}>'
    return f'{field}<label for="curve-{place}-{metric}">{LABELS[metric]}</label>'


def _curve_panel(given: dict[str, Curve], metric: str) -> str:
    times = sorted({t for curve in given.values() for t in curve.time})
    names = legend_order(n for n in given if metric in given[n].metrics)
    values = {n: dict(zip(given[n].time, given[n].metrics[metric], strict=True)) for n in names}
    seconds = [t.timestamp() for t in times]
    series = [Series(label(n), colour(n, names), seconds, [values[n].get(t) for t in times]) for n in names]
    readouts = [_readout(moment(t), [(s.label, s.colour, number(s.y[i])) for s in series]) for i, t in enumerate(times)]
    axis = linear_axis([v for s in series for v in s.y])
    chart = line_chart(
        series,
        time_axis(seconds),
        axis,
        readouts,
        ("time of the impressions", LABELS[metric] + ", lower is better" * (metric in LOWER_IS_BETTER)),
        f"{LABELS[metric]} over time: {', '.join(s.label for s in series)}",
    )
    return f'<div class="panel">{legend(names)}{chart}{_numbers([moment(t) for t in times], series)}</div>'


def _readout(when: str, parts: Iterable[tuple[str, str, str]]) -> str:
    return f"<b>{when}</b>" + "".join(f'<span class="{c}">{escape(name)} {value}</span>' for name, c, value in parts)


def _numbers(first: Sequence[str], series: Sequence[Series]) -> str:
    head = "".join(f"<th>{escape(s.label)}</th>" for s in series)
    rows = "".join(
        f"<tr><th>{t}</th>{''.join(f'<td>{number(s.y[i])}</td>' for s in series)}</tr>" for i, t in enumerate(first)
    )
    table = f"<table><thead><tr><th>from</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<details><summary>The numbers</summary>{table}</details>"


def calibration(student: StudentSummary) -> str:
    """Return observed rates, and observed over predicted ones, against predicted rates per model.

    Logarithmic when the predictions span more than a factor of 30, as click rates do.
    """
    bins = {name: [b for b in given if b.count] for name, given in student.details.calibration.items()}
    names = legend_order(n for n in bins if bins[n])
    if not names:
        return '<p class="none">– This run recorded no calibration bins.</p>'
    predicted = [b.predicted for n in names for b in bins[n]]
    logarithmic = min(predicted) > 0 and max(predicted) > 30 * min(predicted)
    cut = logarithmic and any(b.observed < LEAST for n in names for b in bins[n])
    charts = _reliability(bins, names, logarithmic) + _ratio(bins, names, logarithmic)
    note = "On the dashed lines, what was predicted is what happened." + " Rates are on logarithmic axes." * logarithmic
    note += f" An observed rate below {LEAST:g} is drawn there." * cut
    return f'{legend(names)}<div class="pair even">{charts}</div><p class="note">{note}</p>'


def _rates(values: Sequence[float], logarithmic: bool) -> Axis:
    return log_axis(values) if logarithmic else linear_axis(values, zero=True)


def _reliability(bins: dict[str, list[Bin]], names: list[str], logarithmic: bool) -> str:
    both = _rates([v for n in names for b in bins[n] for v in (b.predicted, b.observed)], logarithmic)
    series = [
        Series(label(n), colour(n, names), [b.predicted for b in bins[n]], [b.observed for b in bins[n]]) for n in names
    ]
    title = "Observed rate against predicted rate, per model"
    return scatter_chart(series, both, both, ("predicted rate", "observed rate"), title)


def _ratio(bins: dict[str, list[Bin]], names: list[str], logarithmic: bool) -> str:
    """Draw the same bins as a ratio: 10 per cent cannot be seen on a diagonal over four decades."""
    known = {n: [b for b in bins[n] if b.predicted > 0] for n in names}
    x = _rates([b.predicted for n in names for b in bins[n]], logarithmic)
    series = [
        Series(
            label(n), colour(n, names), [b.predicted for b in known[n]], [b.observed / b.predicted for b in known[n]]
        )
        for n in names
    ]
    y = linear_axis([1.0, *(v for s in series for v in s.y)])
    title = "Observed over predicted rate, per model"
    return scatter_chart(series, x, y, ("predicted rate", "observed / predicted"), title, level=1.0)
