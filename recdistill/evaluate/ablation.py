"""An ablation: one student, many ways to distill it, sorted by eta; written as `ablation.json` and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recdistill.config.base import Strict
from recdistill.config.experiment import ControlName
from recdistill.evaluate.headline import primary_metric
from recdistill.evaluate.paired import Difference
from recdistill.evaluate.summary import StudentSummary, Summary, Transfers

__all__ = ["Ablation", "Method", "OverFirst", "ablation_of"]


class OverFirst(Strict):
    """What a method's students have over those of the grid's first method, raw over raw and distilled over distilled,
    of paired seeds; flops: of all their training, as multiples of that method's.
    """

    raw: Difference | None = None
    distilled: Difference | None = None
    raw_flops: float | None = None
    distilled_flops: float | None = None


class Method(Strict):
    """One method: the keys that it changes, the metric of its raw and distilled students, eta, and its cost.

    step_cost: seconds per row that it learns, relative to its raw student. rows_learned, seconds: of all its training,
    relative to its raw student's. bytes_per_sample: of the teachers' record that it reads. over_first: None for the
    grid's first method, and for one that is scored on other rows.
    """

    name: str
    changes: dict[str, Any]
    raw: float | None
    distilled: float | None
    transferability: Transfers
    beyond: dict[ControlName, Transfers] = {}
    coverage: float | None
    step_cost: float | None
    rows_learned: float | None
    seconds: float | None
    bytes_per_sample: int
    over_first: OverFirst | None = None


class Ablation(Strict):
    """All methods, the largest eta first; teacher: its metric; first: the grid's first method."""

    name: str
    metric: str
    seeds: list[int]
    confidence: float
    rows: int
    teacher: float | None
    first: str
    methods: list[Method]


def ablation_of(
    summary: Summary,
    changes: Mapping[str, dict[str, Any]],
    sizes: Mapping[str, int],
    over: Mapping[str, tuple[Difference | None, Difference | None]],
) -> Ablation:
    """Return the ablation of a run with a student per method; changes, sizes (bytes per sample), and what its raw and
    its distilled students have over the first method's, by method.
    """
    metric, first = primary_metric(summary), next(iter(summary.students))
    methods = [_method(name, student, metric, changes[name], sizes[name]) for name, student in summary.students.items()]
    methods = [
        one.model_copy(update={"over_first": _over(summary, first, one.name, *over[one.name])})
        if one.name in over
        else one
        for one in methods
    ]
    return Ablation(
        name=summary.name,
        metric=metric,
        seeds=summary.models.raw.seeds,
        confidence=summary.confidence,
        rows=summary.rows,
        teacher=summary.models.teacher.metric(metric),
        first=first,
        methods=sorted(methods, key=lambda one: _order(one, metric), reverse=True),
    )


def _method(name: str, student: StudentSummary, metric: str, changes: dict[str, Any], size: int) -> Method:
    raw, distilled = student.raw.rows_per_second, student.distilled.rows_per_second
    return Method(
        name=name,
        changes=changes,
        raw=student.raw.metric(metric),
        distilled=student.distilled.metric(metric),
        transferability=student.transferability,
        beyond={control: one.beyond for control, one in student.controls.items()},
        coverage=student.coverage,
        step_cost=raw / distilled if raw and distilled else None,
        rows_learned=_ratio(student.distilled.rows_learned, student.raw.rows_learned),
        seconds=_ratio(student.distilled.seconds, student.raw.seconds),
        bytes_per_sample=size,
    )


def _over(summary: Summary, first: str, name: str, raw: Difference | None, distilled: Difference | None) -> OverFirst:
    base, own = summary.students[first], summary.students[name]
    return OverFirst(
        raw=raw,
        distilled=distilled,
        raw_flops=_ratio(own.raw.flops, base.raw.flops),
        distilled_flops=_ratio(own.distilled.flops, base.distilled.flops),
    )


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value and base else None


def _order(method: Method, metric: str) -> tuple[bool, float]:
    """Return what methods are sorted by: eta; those without one follow, by the student's own gain."""
    eta = method.transferability.metric(metric).eta
    gain = (method.distilled or 0.0) - (method.raw or 0.0)
    return eta is not None, gain if eta is None else eta
