"""An ablation: one student, many methods, sorted by what pays; as `ablation.json` and as a page with one
table and one figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from recdistill.config import Strict
from recdistill.evaluate.charts import Axis, linear_axis, whisker
from recdistill.evaluate.report import page
from recdistill.evaluate.report_text import number, percent
from recdistill.evaluate.summary import LABELS, StudentSummary, Summary, Transfer, Transferability, write_atomic
from recdistill.evaluate.verdict import primary_metric

__all__ = ["Ablation", "Method", "ablation_of", "render", "write_ablation"]


class Method(Strict):
    """One method: the keys that it changes, the metric of its raw and distilled students, eta, and what it costs.

    step_cost: seconds per row that it learns, relative to its raw student. bytes_per_sample: of the teacher's record
    that it reads.
    """

    name: str
    changes: dict[str, Any]
    raw: float | None
    distilled: float | None
    transferability: Transferability
    coverage: float | None
    step_cost: float | None
    bytes_per_sample: int


class Ablation(Strict):
    """All methods, the one that pays most first; teacher: its metric."""

    name: str
    metric: str
    seeds: list[int]
    confidence: float
    rows: int
    teacher: float | None
    methods: list[Method]


def ablation_of(summary: Summary, changes: Mapping[str, dict[str, Any]], sizes: Mapping[str, int]) -> Ablation:
    """Return the ablation of a run with a student per method; changes and sizes (bytes per sample) by method."""
    metric = primary_metric(summary)
    methods = [_method(name, student, metric, changes[name], sizes[name]) for name, student in summary.students.items()]
    return Ablation(
        name=summary.name,
        metric=metric,
        seeds=summary.models.raw.seeds,
        confidence=summary.confidence,
        rows=summary.rows,
        teacher=summary.models.teacher.metric(metric),
        methods=sorted(methods, key=lambda one: _pays(one, metric), reverse=True),
    )


def _method(name: str, student: StudentSummary, metric: str, changes: dict[str, Any], size: int) -> Method:
    raw, distilled = student.raw.rows_per_second, student.distilled.rows_per_second
    return Method(
        name=name,
        changes=changes,
        raw=student.raw.metric(metric),
        distilled=student.distilled.metric(metric),
        transferability=student.transferability,
        coverage=student.coverage,
        step_cost=raw / distilled if raw and distilled else None,
        bytes_per_sample=size,
    )


def _pays(method: Method, metric: str) -> tuple[bool, float]:
    """Return what methods are sorted by: eta; where there is none, what the method gained, after all that have one."""
    eta = _eta(method, metric).eta
    gain = (method.distilled or 0.0) - (method.raw or 0.0)
    return eta is not None, gain if eta is None else eta


def _eta(method: Method, metric: str) -> Transfer:
    eta: Transfer = getattr(method.transferability, metric)
    return eta


def render(ablation: Ablation) -> str:
    """Return the page as HTML text; everything taken from `ablation` is escaped."""
    etas = [_eta(method, ablation.metric) for method in ablation.methods]
    ends = [value for eta in etas for value in (eta.eta, eta.low, eta.high) if value is not None]
    axis = linear_axis([max(-1.0, min(2.0, value)) for value in [0.0, 1.0, *ends]], about=5)
    return page(
        f"Ablation: {ablation.name}",
        "ablation.html",
        name=escape(ablation.name),
        metric=LABELS[ablation.metric],
        confidence=f"{100 * ablation.confidence:g}",
        teacher=number(ablation.teacher),
        rows=f"{ablation.rows:,}".replace(",", "\u202f"),
        seeds=len(ablation.seeds),
        figure="".join(_bar(method, ablation.metric, axis) for method in ablation.methods),
        scale="".join(
            f'<span style="left:{axis.place(value):.1f}%">{percent(value)}</span>' for value, _ in axis.marks
        ),
        table="".join(_row(method) for method in ablation.methods),
    )


def _bar(method: Method, metric: str, axis: Axis) -> str:
    eta, start = _eta(method, metric), f'<div class="row"><span>{escape(method.name)}</span>'
    if eta.eta is None:
        return f"{start}<em>no claim: {escape(eta.why or '')}</em></div>"
    told = f"<b>{percent(eta.eta)}</b> <small>{percent(eta.low)} to {percent(eta.high)}</small>"
    return f"{start}{whisker(eta.eta, eta.low, eta.high, axis)}<span>{told}</span></div>"


def _row(method: Method) -> str:
    changed = ", ".join(f"{key}: {value}" for key, value in method.changes.items())
    etas = (getattr(method.transferability, metric) for metric in ("gauc", "auc", "ne"))
    cells = [
        number(method.raw),
        number(method.distilled),
        *(percent(eta.eta) for eta in etas),
        "–" if method.step_cost is None else f"{method.step_cost:.2f}",
        f"{method.bytes_per_sample:,}",
        percent(method.coverage),
    ]
    return (
        f"<tr><th>{escape(method.name)}<small>{escape(changed)}</small></th>"
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    )


def write_ablation(ablation: Ablation, folder: Path) -> None:
    """Write ablation.json and ablation.html into `folder`, each atomically; UserError when that cannot be done."""
    write_atomic(ablation.model_dump_json(indent=2) + "\n", folder / "ablation.json")
    write_atomic(render(ablation), folder / "ablation.html")
