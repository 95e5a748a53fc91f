"""The sections of the report: each takes a Summary and returns HTML in which every text of the user's is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from recdistill.evaluate.charts import (
    Point, Series, bar, dots, line_chart, linear_axis, log_axis, scatter_chart, time_axis, whisker,
)  # fmt: skip
from recdistill.evaluate.summary import LABELS, METRICS, Curve, ModelSummary, Signals, Slice, StudentSummary, Summary, Transfer

__all__ = ["Verdict", "calibration", "cards", "cost", "curves", "headline", "ladder", "measured", "missing", "number",
           "percent", "primary_metric", "signals", "slices", "tasks", "transfer"]  # fmt: skip

SLICES = {"new_item": "New items", "new_user": "New users", "history_length": "History length", "hour": "Hour of the day"}
FURTHER = ("c-other1", "c-other2", "c-other3")


@dataclass(frozen=True)
class Verdict:
    """The report's first sentence, as plain text; `kind` is claim, unclear, harm or none; `metric` is what it is about."""

    kind: str
    text: str
    metric: str


def primary_metric(summary: Summary) -> str:
    """Return the metric the headline is about: GAUC, or AUC where no group holds both classes; never the best-looking one."""
    return "auc" if summary.models.teacher.gauc is None and summary.models.teacher.auc is not None else "gauc"


def headline(summary: Summary) -> Verdict:
    """Return what the run shows in one sentence, no stronger than its interval allows."""
    metric = primary_metric(summary)
    eta = getattr(summary.transferability, metric)
    if eta.eta is None:
        return Verdict("none", f"No claim: {eta.why}", metric)
    arrived = f"{eta.eta:.0%}".replace("%", " %") + " of the teacher's gain arrived"
    if eta.low is None or eta.high is None:
        return Verdict("unclear", f"Not certain: {arrived} ({LABELS[metric]}, no interval)", metric)
    about = f"({LABELS[metric]}, {100 * summary.confidence:g} % interval {_interval(eta.low, eta.high)})"
    if eta.low > 0:
        return Verdict("claim", f"{arrived} {about}", metric)
    if eta.high < 0:
        return Verdict("harm", f"Distillation hurt: {arrived} {about}", metric)
    return Verdict("unclear", f"Not certain: {arrived} {about}; the interval includes zero", metric)


def _interval(low: float, high: float) -> str:
    between = "-" if low >= 0 else " to "
    return f"{100 * low:.0f}{between}{100 * high:.0f} %"


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """Return `value` with a real minus sign; None is a dash."""
    return "–" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share as `62 %` with a narrow space that does not break; None is a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f}\u202f%".replace("-", "−")


def missing(why: str | None) -> str:
    """Return a dash that carries its reason, readable by pointing at it and by a screen reader."""
    reason = escape(why or "not measured")
    return f'<abbr class="none" title="{reason}">–<span class="sr"> ({reason})</span></abbr>'


def _count(value: float) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= unit:
            return f"{value / (1e3 if name == 'k' else unit):.3g}\u202f{name}"
    return f"{value:,.0f}".replace(",", "\u202f")


def _cell(model: ModelSummary, metric: str) -> str:
    value = model.metric(metric)
    if value is None:
        return missing(model.why.get(metric))
    std = model.std.get(metric)
    return number(value) + (f' <small>± {std:.4f}</small>' if std is not None else "")


def _colour(name: str, order: Sequence[str]) -> str:
    if name in LABELS:
        return f"c-{name}"
    others = [n for n in order if n not in LABELS]
    return FURTHER[others.index(name) % len(FURTHER)]


def _label(name: str) -> str:
    return LABELS.get(name, name)


def _legend(names: Sequence[str]) -> str:
    swatch = '<svg viewBox="0 0 28 8" aria-hidden="true"><path class="line {0}" d="M1 4H27"/></svg>'
    return '<p class="legend">' + "".join(f"<span>{swatch.format(_colour(n, names))}{escape(_label(n))}</span>" for n in names) + "</p>"


def _three(summary: Summary) -> list[tuple[str, ModelSummary]]:
    return [("teacher", summary.models.teacher), ("distilled", summary.models.distilled), ("raw", summary.models.raw)]


def ladder(summary: Summary, metric: str) -> str:
    """Return the strip from the raw student over the distilled one to the teacher on `metric`, or why there is none."""
    known = [(name, v) for name, model in _three(summary) if (v := model.metric(metric)) is not None]
    if len(known) < 3:
        return ""
    axis = linear_axis([v for _, v in known])
    text = ", ".join(f"{_label(name).lower()} {number(v)}" for name, v in known)
    marks = "".join(f'<span style="left:{axis.place(v):.1f}%">{t}</span>' for v, t in axis.marks)
    strip = dots([Point(_label(name), f"c-{name}", v) for name, v in known], axis)
    return f'<div class="ladder" role="img" aria-label="{LABELS[metric]}: {text}">{strip}<div class="ax">{marks}</div></div>'


def cards(summary: Summary, metric: str) -> str:
    """Return one card per model: the headline's metric large, the others below, each with its spread over seeds."""
    return "".join(_card(name, model, summary.models.raw, metric) for name, model in _three(summary))


def _card(name: str, model: ModelSummary, raw: ModelSummary, metric: str) -> str:
    value, base = model.metric(metric), raw.metric(metric)
    big = number(value) if value is not None else missing(model.why.get(metric))
    gain = "baseline of the claim" if name == "raw" else ""
    if not gain and value is not None and base is not None:
        gain = f"{number(value - base, sign=True)} against the raw student"
    rows = "".join(f"<div><dt>{LABELS[m]}</dt><dd>{_cell(model, m)}</dd></div>" for m in METRICS if m != metric)
    return (f'<article class="card c-{name}"><h3>{_label(name)}</h3><p class="big">{big}<small>{LABELS[metric]}</small></p>'
            f'<p class="gain">{gain or "&nbsp;"}</p><dl>{rows}</dl></article>')  # fmt: skip


def transfer(summary: Summary) -> str:
    """Return eta with its interval for every student and metric on one scale from -100 % to 200 % at most."""
    every = [t for s in summary.students.values() for t in (s.transferability.gauc, s.transferability.auc, s.transferability.ne)]
    ends = [v for t in every for v in (t.eta, t.low, t.high) if v is not None]
    axis = linear_axis([max(-1.0, min(2.0, v)) for v in [0.0, 1.0, *ends]], about=5)
    marks = "".join(f'<span style="left:{axis.place(v):.1f}%">{percent(v)}</span>' for v, _ in axis.marks)
    body = "".join(_transfer_rows(name, student, axis) for name, student in summary.students.items())
    return (f'<div class="etas">{body}<div class="row scale"><span></span><div class="ax">{marks}</div><span></span></div></div>'
            '<p class="note">0\u202f% is the raw student, 100\u202f% the teacher. Whiskers are '
            f"{100 * summary.confidence:g}\u202f% intervals.</p>")  # fmt: skip


def _transfer_rows(name: str, student: StudentSummary, axis: object) -> str:
    rows = [f'<p class="student">{escape(name)}</p>']
    for metric in ("gauc", "auc", "ne"):
        eta: Transfer = getattr(student.transferability, metric)
        if eta.eta is None:
            rows.append(f'<div class="row"><span>{LABELS[metric]}</span><em>no claim: {escape(eta.why or "")}</em></div>')
            continue
        between = f"{percent(eta.low)} to {percent(eta.high)}" if eta.low is not None else "no interval"
        strip = whisker(eta.eta, eta.low, eta.high, axis)  # type: ignore[arg-type]
        rows.append(f'<div class="row"><span>{LABELS[metric]}</span>{strip}<span><b>{percent(eta.eta)}</b> <small>{between}</small></span></div>')
    return "".join(rows)


def curves(summary: Summary, metric: str) -> str:
    """Return the progressive curves, one tab per metric with the headline's first; the first student's models."""
    given = {name: curve for name, curve in summary.details.curves.items() if curve.time}
    found = [m for m in METRICS if any(m in c.metrics for c in given.values())]
    found.sort(key=lambda m: m != metric)
    if not found:
        return '<p class="none">– This run recorded no curves.</p>'
    tabs = "".join(
        f'<input type="radio" name="curve" id="curve-{m}"{" checked" if m == found[0] else ""}><label for="curve-{m}">{LABELS[m]}</label>'
        for m in found
    )
    return f'<div class="tabs">{tabs}{"".join(_curve_panel(given, m) for m in found)}</div>'


def _curve_panel(given: dict[str, Curve], metric: str) -> str:
    times = sorted({t for curve in given.values() for t in curve.time})
    names = [n for n in ("teacher", "distilled", "raw") if n in given] + [n for n in given if n not in LABELS]
    values = {n: dict(zip(given[n].time, given[n].metrics.get(metric, []), strict=False)) for n in names}
    seconds = [t.timestamp() for t in times]
    series = [Series(_label(n), _colour(n, names), seconds, [values[n].get(t) for t in times]) for n in names]
    readouts = [_readout(t.strftime("%-d %b %Y %H:%M"), [(s.label, s.colour, number(s.y[i])) for s in series]) for i, t in enumerate(times)]
    axis = linear_axis([v for s in series for v in s.y])
    chart = line_chart(series, time_axis(seconds, times[0]), axis, readouts, ("time of the impressions", LABELS[metric]),
                       f"{LABELS[metric]} over time: {', '.join(s.label for s in series)}")  # fmt: skip
    return f'<div class="panel">{_legend(names)}{chart}{_numbers([t.isoformat(" ", "minutes") for t in times], series)}</div>'


def _readout(when: str, parts: Iterable[tuple[str, str, str]]) -> str:
    return f"<b>{when}</b>" + "".join(f'<span class="{c}">{escape(label)} {value}</span>' for label, c, value in parts)


def _numbers(first: Sequence[str], series: Sequence[Series]) -> str:
    head = "".join(f"<th>{escape(s.label)}</th>" for s in series)
    rows = "".join(f"<tr><th>{t}</th>{''.join(f'<td>{number(s.y[i])}</td>' for s in series)}</tr>" for i, t in enumerate(first))
    return f'<details><summary>The numbers</summary><table><thead><tr><th>from</th>{head}</tr></thead><tbody>{rows}</tbody></table></details>'


def signals(summary: Summary) -> str:
    """Return what the distilled student heard over time: coverage and KL to the teacher; empty when not recorded."""
    heard = summary.details.signals
    if heard is None or not heard.time:
        return ""
    charts = "".join(_signal_chart(heard, y, label) for y, label in ((heard.coverage, "coverage"), (heard.kl, "KL, nats")) if y)
    return f'<section><h2>What the student heard</h2><div class="pair">{charts}</div></section>' if charts else ""


def _signal_chart(heard: Signals, values: Sequence[float | None], label: str) -> str:
    seconds = [t.timestamp() for t in heard.time]
    readouts = [_readout(t.strftime("%-d %b %Y %H:%M"), [(label, "c-distilled", number(v))]) for t, v in zip(heard.time, values, strict=True)]
    return line_chart([Series(label, "c-distilled", seconds, values)], time_axis(seconds, heard.time[0], 3),
                      linear_axis(values, 3, zero=label != "coverage"), readouts, ("time of the impressions", label),
                      f"{label} over time")  # fmt: skip


def calibration(summary: Summary) -> str:
    """Return observed against predicted rates per model; logarithmic when the predictions span more than a factor of 30."""
    given = {name: [b for b in bins if b.count] for name, bins in summary.details.calibration.items()}
    names = [n for n in ("teacher", "distilled", "raw") if given.get(n)] + [n for n in given if n not in LABELS and given[n]]
    if not names:
        return '<p class="none">– This run recorded no calibration bins.</p>'
    predicted = [b.predicted for n in names for b in given[n]]
    everything = predicted + [b.observed for n in names for b in given[n]]
    logarithmic = min(everything) > 0 and max(predicted) > 30 * min(predicted)
    axis = log_axis(everything) if logarithmic else linear_axis(everything, zero=True)
    series = [Series(_label(n), _colour(n, names), [b.predicted for b in given[n]], [b.observed for b in given[n]]) for n in names]
    chart = scatter_chart(series, axis, ("predicted rate", "observed rate"), "Observed rate against predicted rate, per model")
    scale = " Both axes are logarithmic." if logarithmic else ""
    return f'{_legend(names)}{chart}<p class="note">On the dashed line, what was predicted is what happened.{scale}</p>'


def slices(summary: Summary, metric: str) -> str:
    """Return one table per kind of slice; gaps are drawn on one scale for all of them."""
    given = summary.details.slices
    if not given:
        return '<p class="none">– This run was not sliced.</p>'
    if not any(metric in m for s in given for m in s.metrics.values()):
        metric = "auc"
    axis = linear_axis([v for s in given for m in s.metrics.values() if (v := m.get(metric)) is not None])
    kinds = list(dict.fromkeys(s.slice for s in given))
    tables = "".join(_slice_table(kind, [s for s in given if s.slice == kind], metric, axis, summary.rows) for kind in kinds)
    ends = f"<span>{axis.marks[0][1]}</span><span>{axis.marks[-1][1]}</span>"
    return (f'{_legend(["teacher", "distilled", "raw"])}<p class="ends note">{LABELS[metric]} on one scale for every row, '
            f"from {ends}</p>{tables}").replace("</span><span>", "</span> to <span>")  # fmt: skip


def _slice_table(kind: str, rows: Sequence[Slice], metric: str, axis: object, total: int) -> str:
    name = SLICES.get(kind, kind.replace("_", " ").capitalize())
    head = f"<th>{escape(name)}</th><th>rows</th><th>{LABELS[metric]}: raw, distilled, teacher</th><th></th><th>eta</th>"
    body = "".join(_slice_row(row, metric, axis, total) for row in rows)
    return f'<table class="slices"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _slice_row(row: Slice, metric: str, axis: object, total: int) -> str:
    values = {n: row.metrics.get(n, {}).get(metric) for n in ("raw", "distilled", "teacher")}
    points = [Point(_label(n), f"c-{n}", v) for n, v in values.items() if v is not None]
    strip = dots(points, axis)  # type: ignore[arg-type]
    figures = " ".join(f'<span class="c-{n}">{number(v, 3)}</span>' for n, v in values.items())
    eta = f"<b>{percent(row.eta)}</b>" if row.eta is not None else missing(row.why)
    return (f"<tr><th>{escape(row.value)}</th><td>{_count(row.rows)}{bar(row.rows / max(total, 1))}</td>"
            f'<td>{strip}</td><td class="figures">{figures}</td><td>{eta}</td></tr>')  # fmt: skip


def tasks(summary: Summary) -> str:
    """Return the table of a run with several tasks; empty with one."""
    if len(summary.details.tasks) < 2:
        return ""
    order = ("raw", "distilled", "teacher")
    rows = "".join(
        f"<tr><th>{escape(t.task)}</th>"
        + "".join(f"<td>{number(t.metrics.get(n, {}).get('gauc', t.metrics.get(n, {}).get('auc')))}</td>" for n in order)
        + f"<td>{percent(t.eta) if t.eta is not None else missing(t.why)}</td></tr>"
        for t in summary.details.tasks
    )
    head = "".join(f"<th>{LABELS[n].split()[0]}</th>" for n in order)
    return f"<section><h2>Every task</h2><table><thead><tr><th>GAUC</th>{head}<th>eta</th></tr></thead><tbody>{rows}</tbody></table></section>"


def cost(summary: Summary) -> str:
    """Return what each model costs: parameters and measured speed, with bars against the largest."""
    models = [("Teacher", summary.models.teacher)]
    for name, student in summary.students.items():
        suffix = f" {name}" if len(summary.students) > 1 else ""
        models += [(f"Distilled{suffix}", student.distilled), (f"Raw{suffix}", student.raw)]
    columns = (("dense_parameters", "dense parameters"), ("sparse_parameters", "embedding parameters"), ("rows_per_second", "rows per second"))
    most = {key: max((getattr(m, key) or 0 for _, m in models), default=0) for key, _ in columns}
    rows = "".join(
        f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{_cost_cell(model, key, most[key])}</td>" for key, _ in columns) + "</tr>"
        for name, model in models
    )
    head = "".join(f"<th>{title}</th>" for _, title in columns)
    return f'<table class="cost"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _cost_cell(model: ModelSummary, key: str, most: float) -> str:
    value = getattr(model, key)
    return missing(model.why.get(key)) if value is None else f"{_count(value)}{bar(value / (most or 1))}"


def measured(summary: Summary) -> str:
    """Return how the numbers came to be: window, rows, seeds, coverage, versions."""
    window, versions = summary.window, summary.versions
    times = [t.strftime("%-d %b %Y %H:%M %Z") if t else None for t in (window.start, window.end)]
    share = f", after the first {percent(window.share)} of the log" if window.share is not None else ""
    seeds = {n: ", ".join(map(str, m.seeds)) or missing(None) for n, m in _three(summary)}
    tables = [f"{n} version {v}" if v is not None else f"{n} version not recorded" for n, v in
              (("events", versions.events), ("predictions", versions.predictions))]  # fmt: skip
    facts = [
        ("Window", f"{escape(str(times[0]))} to {escape(str(times[1]))}{share}" if all(times) else missing("the run gave no window") + share),
        ("Rows scored", f"{summary.rows:,}".replace(",", "\u202f")),
        ("Tasks", escape(", ".join(summary.tasks)) + (" (the first is the one shown)" if len(summary.tasks) > 1 else "")),
        ("GAUC groups", f"one per {escape(summary.group)}"),
        ("Seeds", f"teacher {seeds['teacher']}; students {seeds['distilled']}, raw and distilled paired"),
        ("Signal coverage", percent(summary.coverage, 1) if summary.coverage is not None else missing("not counted")),
        ("Tables", "; ".join(tables)),
        ("Packages", escape(", ".join(f"{k} {v}" for k, v in versions.packages.items())) or missing("not recorded")),
    ]  # fmt: skip
    return "<dl class=\"facts\">" + "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts) + "</dl>"
