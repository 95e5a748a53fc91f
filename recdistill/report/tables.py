"""The report's cards and tables from a Summary; every text of the user's is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from recdistill.evaluate.label_lag import lag_sentence
from recdistill.evaluate.notes import lost_note, training_of, widest_note
from recdistill.evaluate.summary import (
    LABELS,
    ModelSummary,
    Slice,
    StudentSummary,
    Summary,
    TaskSummary,
    Transfer,
)
from recdistill.report.charts import Axis, Point, bar, dots, linear_axis, whisker
from recdistill.report.controls import NO_CONTROL
from recdistill.report.text import (
    MODELS,
    count,
    label,
    missing,
    moment,
    number,
    percent,
    shape,
    shapes,
    three_models,
    why_note,
)

__all__ = ["cards", "cost", "measured", "slices", "tasks", "transfer"]


SLICES = {
    "new_item": "New items",
    "new_user": "New users",
    "history_length": "History length",
    "hour": "Hour of the day (UTC)",
}


def cards(summary: Summary, student: StudentSummary, metric: str) -> str:
    """Return one card per model: the headline's metric large, the others below, each with its spread over seeds."""
    return "".join(
        _card(name, model, student.raw, metric, summary.group) for name, model in three_models(summary, student)
    )


def _card(name: str, model: ModelSummary, raw: ModelSummary, metric: str, group: str) -> str:
    value, base = model.metric(metric), raw.metric(metric)
    big = number(value) if value is not None else missing(model.why.get(metric))
    gain = "baseline of the claim" if name == "raw" else ""
    if not gain and value is not None and base is not None:
        gain = f"{number(value - base, sign=True)} against the raw student"
    rows = "".join(f"<div><dt>{LABELS[m]}</dt><dd>{_cell(model, m)}</dd></div>" for m in model.metrics if m != metric)
    others = ((by, value) for by, value in model.gauc_by.items() if by != group)
    rows += "".join(f"<div><dt>GAUC by {escape(by)}</dt><dd>{number(v)}</dd></div>" for by, v in others)
    note = why_note(
        f"{LABELS[m]}: {model.why.get(m, 'not measured')}" for m in model.metrics if model.metric(m) is None
    )
    return (
        f'<article class="card c-{name}"><h3>{shape(name)}{label(name)}</h3>'
        f'<p class="big">{big}<small>{LABELS[metric]}</small></p>'
        f'<p class="gain">{gain or "&nbsp;"}</p><dl>{rows}</dl>{note}</article>'
    )


def _cell(model: ModelSummary, metric: str) -> str:
    value = model.metric(metric)
    if value is None:
        return missing(model.why.get(metric))
    std = model.std.get(metric)
    return number(value) + (f" <small>± {std:.4f}</small>" if std is not None else "")


def transfer(summary: Summary) -> str:
    """Return eta with its interval for every student and metric on one scale from -100 % to 200 % at most."""
    every = [t for s in summary.students.values() for t in map(s.transferability.metric, s.transferability.names)]
    ends = [v for t in every for v in (t.eta, t.low, t.high) if v is not None]
    axis = linear_axis([max(-1.0, min(2.0, v)) for v in [0.0, 1.0, *ends]], about=5)
    marks = "".join(f'<span style="left:{axis.place(v):.1f}%">{percent(v)}</span>' for v, _ in axis.marks)
    body = "".join(_transfer_rows(name, student, axis) for name, student in summary.students.items())
    if not ends:
        return f'<div class="etas">{body}</div>'
    return (
        f'<div class="etas">{body}<div class="row scale"><span></span><div class="ax">{marks}</div><span></span></div>'
        "</div>"
        '<p class="note">0\u202f% is the raw student, 100\u202f% the teacher. Whiskers are '
        f"{100 * summary.confidence:g}\u202f% intervals; an arrow marks what goes on beyond the scale.</p>"
    )


def _transfer_rows(name: str, student: StudentSummary, axis: Axis) -> str:
    etas = {metric: student.transferability.metric(metric) for metric in student.transferability.names}
    rows = [_transfer_row(metric, eta, axis) for metric, eta in etas.items()]
    rows += [
        f'<p class="note">{LABELS[metric]}: {escape(note)}</p>'
        for metric, eta in etas.items()
        if (note := widest_note(eta))
    ]
    took = f"{training_of(student.distilled) or 'not known'}; raw: {training_of(student.raw) or 'not known'}"
    return f'<p class="student">{escape(name)} <small>trained on {took}</small></p>{"".join(rows)}'


def _transfer_row(metric: str, eta: Transfer, axis: Axis) -> str:
    start = f'<div class="row"><span>{LABELS[metric]}</span>'
    if eta.eta is None:
        return f"{start}<em>no claim: {escape(eta.why or '')}</em></div>"
    between = f"{percent(eta.low)} to {percent(eta.high)}" if eta.low is not None else "no interval"
    strip = whisker(eta.eta, eta.low, eta.high, axis)
    lost = f'<small class="lost">{escape(lost_note(eta).strip(" ()"))}</small>' if eta.loses_on else ""
    return f"{start}{strip}<span><b>{percent(eta.eta)}</b> <small>{between}</small>{lost}</span></div>"


def slices(summary: Summary, student: StudentSummary, metric: str) -> str:
    """Return one table per kind of slice; gaps are drawn on one scale for all of them."""
    given = student.details.slices
    if not given:
        return '<p class="none">– This run has no slices.</p>'
    if not any(metric in m for s in given for m in s.metrics.values()):
        metric = "auc"
    axis = linear_axis([v for s in given for m in s.metrics.values() if (v := m.get(metric)) is not None])
    kinds = list(dict.fromkeys(s.slice for s in given))
    tables = "".join(
        _slice_table(kind, [s for s in given if s.slice == kind], metric, axis, summary.rows) for kind in kinds
    )
    ends = f"{axis.marks[0][1]} to {axis.marks[-1][1]}"
    note = why_note(f"{_kind(s.slice)} {s.value}: {s.why}" for s in given if s.eta is None)
    intro = (
        f"{LABELS[metric]} on one scale for every row, from {ends}. Each eta has its own interval of "
        f"{100 * summary.confidence:g}\u202f%: with {len(given)} intervals, some are bound to miss."
    )
    return f'<p class="intro">{intro}</p>{shapes()}{tables}{note}'


def _kind(kind: str) -> str:
    return SLICES.get(kind, kind.replace("_", " ").capitalize())


def _slice_table(kind: str, rows: Sequence[Slice], metric: str, axis: Axis, total: int) -> str:
    name = _kind(kind)
    head = (
        f"<th>{escape(name)}</th><th>rows</th><th>{LABELS[metric]}: raw, distilled, teacher</th><th></th><th>eta</th>"
    )
    body = "".join(_slice_row(row, metric, axis, total) for row in rows)
    return f'<table class="slices"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _slice_row(row: Slice, metric: str, axis: Axis, total: int) -> str:
    values = {n: row.metrics.get(n, {}).get(metric) for n in MODELS}
    points = [Point(label(n), f"c-{n}", v) for n, v in values.items() if v is not None]
    strip = dots(points, axis)
    figures = " ".join(f'<span class="c-{n}">{number(v, 3)}</span>' for n, v in values.items())
    eta = _eta(row.eta, row.low, row.high, row.why)
    return (
        f"<tr><th>{escape(row.value)}</th><td>{count(row.rows)}{bar(row.rows / max(total, 1))}</td>"
        f'<td>{strip}</td><td class="figures">{figures}</td><td>{eta}</td></tr>'
    )


def _eta(eta: float | None, low: float | None, high: float | None, why: str | None) -> str:
    """Return eta with its interval below it, or a dash with the reason."""
    if eta is None:
        return missing(why)
    between = f"<small>{percent(low)} to {percent(high)}</small>" if low is not None else ""
    return f'<span class="eta"><b>{percent(eta)}</b>{between}</span>'


def tasks(summary: Summary, metric: str) -> str:
    """Return the table of a run with several tasks, a row per task and student; empty with one."""
    if not summary.further_tasks:
        return ""
    first = TaskSummary(rows=summary.rows, teacher=summary.models.teacher, students=summary.students)
    every = {summary.tasks[0]: first, **summary.further_tasks}
    shown = {task: metric if metric in one.teacher.etas else one.teacher.etas[0] for task, one in every.items()}
    rows = "".join(_task_row(task, one, name, shown[task]) for task, one in every.items() for name in one.students)
    head = "".join(f"<th>{n}</th>" for n in MODELS)
    etas = {
        (task, name): student.transferability.metric(shown[task])
        for task, one in every.items()
        for name, student in one.students.items()
    }
    note = why_note(f"{task}, {name}: {eta.why}" for (task, name), eta in etas.items() if eta.eta is None)
    named = ", ".join(dict.fromkeys(LABELS[one] for one in shown.values()))
    top = f"<thead><tr><th>{named}</th>{head}<th>eta</th></tr></thead>"
    note = _graded(summary) + note
    return f'<section><h2>Every task</h2><table class="tasks">{top}<tbody>{rows}</tbody></table>{note}</section>'


def _graded(summary: Summary) -> str:
    """Return a note per label with several levels: each model's NDCG."""
    lines = (
        f"{escape(label)}: NDCG by {escape(summary.group)}: "
        + ", ".join(f"{escape(name)} {number(value)}" for name, value in models.items())
        for label, models in summary.graded.items()
        if models
    )
    return "".join(f'<p class="note">{line}.</p>' for line in lines)


def _task_row(task: str, one: TaskSummary, name: str, metric: str) -> str:
    student = one.students[name]
    eta: Transfer = student.transferability.metric(metric)
    cells = "".join(f"<td>{number(m.metric(metric))}</td>" for m in (student.raw, student.distilled, one.teacher))
    student_name = f" <small>{escape(name)}</small>" if len(one.students) > 1 else ""
    return f"<tr><th>{escape(task)}{student_name}</th>{cells}<td>{_eta(eta.eta, eta.low, eta.high, eta.why)}</td></tr>"


def cost(summary: Summary) -> str:
    """Return each model's settings, parameters and measured speed, with bars against the largest."""
    models = [("Teacher", summary.models.teacher)]
    for name, student in summary.students.items():
        suffix = f" {name}" if len(summary.students) > 1 else " student"
        models += [(f"Distilled{suffix}", student.distilled), (f"Raw{suffix}", student.raw)]
    columns = (
        ("dense_parameters", "dense parameters"),
        ("sparse_parameters", "embedding parameters"),
        ("rows_per_second", "rows per second"),
        ("rows_learned", "rows learned"),
        ("steps", "steps"),
        ("seconds", "seconds"),
        ("flops", "FLOPs of training"),
        ("serving_flops", "FLOPs to rank 200 candidates"),
    )
    most = {key: max((getattr(m, key) or 0 for _, m in models), default=0) for key, _ in columns}
    rows = "".join(
        f"<tr><th>{escape(name)}{_settings(model)}</th>"
        + "".join(f'<td data-name="{title}">{_cost_cell(model, key, most[key])}</td>' for key, title in columns)
        + "</tr>"
        for name, model in models
    )
    head = "".join(f"<th>{title}</th>" for _, title in columns)
    note = why_note(m.why.get(key, "not measured") for _, m in models for key, _ in columns if getattr(m, key) is None)
    return f'<table class="cost"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>{note}'


def _settings(model: ModelSummary) -> str:
    """Return the model's settings by their names in the experiment file, what differs most between models first."""
    given = model.settings
    if not given:
        return ""
    named = [f"{key.replace('_', ' ')} {given[key]}" for key in ("width", "history", "sampling") if key in given]
    kind = f"imported from {given['imported']}" if "imported" in given else str(given.get("kind", ""))
    about = ", ".join([kind, *named])
    if "weight" in given:
        about += f"; distilled with weight {given['weight']}, {given.get('towers')} towers, {given.get('loss')}"
        about += ", cross-fitted signals" if given.get("signals") == "crossfit" else ""
        about += f", gate {given['gate']}" if given.get("gate") not in (None, "always") else ""
    return f"<small>{escape(about)}</small>"


def _cost_cell(model: ModelSummary, key: str, most: float) -> str:
    value = getattr(model, key)
    return missing(model.why.get(key)) if value is None else f"{count(value)}{bar(value / (most or 1))}"


def measured(summary: Summary) -> str:
    """Return where the numbers come from: window, rows, seeds, coverage, versions."""
    first = " (the first is the one shown)" if len(summary.tasks) > 1 else ""
    packages = ", ".join(f"{name} {version}" for name, version in summary.versions.packages.items())
    facts = [
        ("Window", _window(summary)),
        ("Rows scored", f"{summary.rows:,}".replace(",", "\u202f")),
        ("Tasks", escape(", ".join(summary.tasks)) + first),
        *([("Labels", escape(lag_sentence(summary.label_lag)))] if summary.label_lag is not None else []),
        ("GAUC groups", f"one per {escape(summary.group)}"),
        ("Seeds", f"teacher {_seeds(summary.models.teacher)}{_one_teacher(summary)}; {_paired(summary)}"),
        *([] if any(one.controls for one in summary.students.values()) else [("Controls", escape(NO_CONTROL))]),
        ("Signal coverage", _coverage(summary)),
        (
            "Table versions",
            f"events {_version(summary.versions.events)}; predictions {_version(summary.versions.predictions)}",
        ),
        ("Packages", escape(packages) or missing("not recorded")),
    ]
    return '<dl class="facts">' + "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts) + "</dl>"


def _seeds(model: ModelSummary) -> str:
    return ", ".join(map(str, model.seeds)) or missing(None)


def _one_teacher(summary: Summary) -> str:
    return " alone, so eta is about this one teacher" if len(summary.models.teacher.seeds) == 1 else ""


def _paired(summary: Summary) -> str:
    """Return the students' seeds, once where all students have the same."""
    lines = dict.fromkeys(
        f"students {_seeds(s.distilled)}, the same for raw and distilled"
        if s.raw.seeds == s.distilled.seeds
        else f"raw {_seeds(s.raw)}; distilled {_seeds(s.distilled)}: not the same, so not paired"
        for s in summary.students.values()
    )
    return "; ".join(lines)


def _coverage(summary: Summary) -> str:
    """Return the share of samples with a signal, by student where there are several."""
    shares = [
        (f"{escape(name)} " if len(summary.students) > 1 else "")
        + (missing("not counted") if student.coverage is None else percent(student.coverage, 1))
        for name, student in summary.students.items()
    ]
    return ", ".join(shares)


def _version(version: int | None) -> str:
    return missing("not recorded") if version is None else str(version)


def _window(summary: Summary) -> str:
    start, end, share = summary.window.start, summary.window.end, summary.window.share
    times = f"{moment(start)} to {moment(end)} UTC" if start and end else missing("the run gave no window")
    return times + (f", after the first {percent(share)} of the log" if share is not None else "")
