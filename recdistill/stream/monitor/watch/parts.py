"""The sections of the live page: students' curves, processes, versions, what did not arrive, what happened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from recdistill.report import text as report_text
from recdistill.report.charts import Series, line_chart, linear_axis, time_axis
from recdistill.report.text import MODELS, colour, count, label, legend, number, percent
from recdistill.stream.monitor.state import ModelState, ProcessState, State, VersionState
from recdistill.stream.monitor.watch.figures import grid_of, models_of, on_grid

__all__ = ["clock", "duration", "happened", "lost", "moment", "processes", "student", "versions"]

LINES, VERSIONS = 60, 12  # shown of what happened, and of each list of versions
NE, CALIBRATION = 1, 2
CURVES = (("NE, lower is better", NE), ("predicted / observed, 1 is right", CALIBRATION))


def moment(seconds: float) -> str:
    """Return epoch `seconds` as `2 Mar 2026 09:30`, UTC."""
    return report_text.moment(datetime.fromtimestamp(seconds, UTC))


def clock(seconds: float) -> str:
    """Return epoch `seconds` as `09:30:12`, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def duration(seconds: float | None) -> str:
    """Return a span as `1.2 s`, `3 min`, `5 h` or `2 days`."""
    if seconds is None:
        return "–"
    for unit, name, digits in ((172_800, "days", 86_400), (7200, "h", 3600), (120, "min", 60)):
        if seconds >= unit:
            return f"{seconds / digits:.0f}\u202f{name}"
    return f"{seconds:.1f}\u202fs" if seconds < 10 else f"{seconds:.0f}\u202fs"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], wide: int = -1) -> str:
    """Return a table of safe HTML cells that stacks on a phone; column `wide` has a line of its own there."""
    head = "".join(f'<th scope="col">{one}</th>' for one in heads)
    body = "".join(
        f"<tr>{''.join(_cell(heads[k], cell, k, k == wide) for k, cell in enumerate(row))}</tr>" for row in rows
    )
    return f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(head: str, cell: str, place: int, wide: bool) -> str:
    if place == 0:
        return f'<th scope="row">{cell}</th>'
    return f'<td{" class=wide" if wide else ""} data-name="{head}">{cell}</td>'


def _none(text: str) -> str:
    return f'<p class="none">{text}</p>'


def student(state: State, name: str) -> str:
    """Return a student's section: its figures next to the teacher's, and their curves over event time."""
    given = {role: models_of(state, name, role) for role in reversed(MODELS)}
    rows = [_figures(one) for models in given.values() for one in models]
    table = _table(("model", "NE", "calibration", "coverage", "waited", "label to weights", "rows"), rows)
    everyone = [one for models in given.values() for one in models]
    curves = _curves(given, grid_of(everyone))
    return f"<section><h2>{escape(name)} <small>over its newest labelled rows</small></h2>{table}{curves}</section>"


def _figures(model: ModelState) -> tuple[str, ...]:
    recent = model.recent
    covered = percent(recent.coverage) if model.role == "distilled" else "–"
    return (
        f'<b class="dot inline c-{model.role}"></b>{escape(model.name)}',
        number(recent.ne),
        number(recent.calibration, 3),
        covered,
        duration(recent.waiting),
        duration(model.label_to_weights),
        count(recent.rows),
    )


def _curves(given: dict[str, list[ModelState]], grid: list[float]) -> str:
    if not grid:
        return _none("– No curve yet: it begins with the second commit.")
    roles = [role for role, models in given.items() if models]
    charts = (
        _chart([_series(role, given[role], roles, grid, figure) for role in roles], grid, name)
        for name, figure in CURVES
    )
    return f'{legend(roles)}<div class="pair">{"".join(f"<div>{chart}</div>" for chart in charts)}</div>'


def _series(role: str, models: list[ModelState], roles: list[str], grid: list[float], figure: int) -> Series:
    return Series(label(role), colour(role, roles), grid, on_grid(models, grid, figure))


def _chart(series: list[Series], grid: list[float], name: str) -> str:
    readouts = [
        f"<b>{moment(time)}</b>"
        + "".join(f'<span class="{s.colour}">{s.label} {number(s.y[i])}</span>' for s in series)
        for i, time in enumerate(grid)
    ]
    title = f"{name}, over time: {', '.join(f'{s.label} {number(s.y[-1])} last' for s in series)}"
    return line_chart(
        series,
        time_axis(grid, 3),
        linear_axis([v for s in series for v in s.y]),
        readouts,
        ("event time, UTC", name),
        title,
    )


def processes(state: State) -> str:
    """Return a row per process."""
    if not state.processes:
        return _none("– None has committed anything yet.")
    heads = (
        "process",
        "state",
        "rows",
        "rows/s",
        "behind",
        "event time behind",
        "last sign",
        "waiting rows",
        "memory",
        "files",
    )
    return _table(heads, (_process(one) for one in state.processes))


def _process(one: ProcessState) -> tuple[str, ...]:
    kind = {"stalled": "ill", "working": "fine"}.get(one.status, "none")
    return (
        escape(one.name),
        f'<span class="{kind}">{one.status}</span>',
        count(one.rows),
        "–" if one.rows_per_second is None else count(one.rows_per_second),
        "–" if one.lag_rows is None else count(one.lag_rows),
        duration(one.lag_seconds),
        "–" if one.status == "ended" else f"{duration(one.silent)} ago",
        count(one.pending),
        f"{one.memory / 2**20:,.0f}\u202fMiB",
        count(one.handles),
    )


def versions(state: State) -> str:
    """Return the quarantined versions with their reasons, and the newest of all."""
    if not state.versions and not state.bad:
        return _none("– No teacher has predicted anything in the stream yet.")
    heads = ("version", "verdict", "usable rows", "since", "reason")
    bad = sorted(state.bad, key=lambda one: -one.time)
    more = (
        f'<p class="note">{count(len(bad) - VERSIONS)} earlier ones are in the verdicts table.</p>'
        if len(bad) > VERSIONS
        else ""
    )
    first = (
        f"<h3>Not to be learned from</h3>{_table(heads, map(_version, bad[:VERSIONS]), 4)}{more}"
        if bad
        else _none("None is quarantined.")
    )
    newest = sorted(state.versions, key=lambda one: -one.time)[:VERSIONS]
    active = "".join(
        f'<p class="note">From {moment(at)} UTC on students learn from {escape(model)}.</p>'
        for at, model in state.active_teacher_from[-3:]
    )
    return (
        f"{first}{active}<details><summary>The newest "
        f"versions</summary>{_table(heads, map(_version, newest), 4)}</details>"
    )


def _version(one: VersionState) -> tuple[str, ...]:
    kind = {"approved": "fine", "waiting": "none"}.get(one.verdict, "ill")
    verdict = f'<span class="{kind}">{escape(one.verdict)}</span>'
    return (
        f"{escape(one.model)} {one.version}",
        verdict,
        count(one.rows),
        f"{clock(one.time)} UTC",
        escape(one.reason[:500]) or "–",
    )


def lost(state: State) -> str:
    """Return what was dropped, missing and dead, each by cause."""
    missing = [(f"{one.name}: {cause}", rows) for one in state.models for cause, rows in one.missing.items() if rows]
    lists = (
        ("Rows dropped by ingest", list(state.dropped.items())),
        ("Signals missing or unused", missing),
        ("Dead letters", sorted(state.dead.items(), key=lambda one: -one[1])[:VERSIONS]),
    )
    return f'<div class="three">{"".join(_list(head, pairs) for head, pairs in lists)}</div>'


def _list(head: str, pairs: list[tuple[str, int]]) -> str:
    lines = "".join(f"<div><dt>{escape(name[:300])}</dt><dd>{count(rows)}</dd></div>" for name, rows in pairs if rows)
    return f"<div><h3>{head}</h3>{f'<dl class=list>{lines}</dl>' if lines else _none('None.')}</div>"


def happened(state: State) -> str:
    """Return the newest lines of the processes' journals, newest first."""
    lines = (
        f"<li><time>{escape(one.time[:19].replace('T', ' '))}</time><b>{escape(one.process)}</b>"
        f"<div>{escape(one.event)}<code>{escape(one.details)}</code></div></li>"
        for one in reversed(state.happened[-LINES:])
    )
    return f'<ol class="happened">{"".join(lines)}</ol>' if state.happened else _none("– No journal yet.")
