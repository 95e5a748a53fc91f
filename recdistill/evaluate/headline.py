"""The one sentence that sums up a student: what its interval allows, and never more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recdistill.evaluate.summary import LABELS, StudentSummary, Summary

__all__ = ["Headline", "HeadlineKind", "headline", "headlines", "primary_metric"]

HeadlineKind = Literal["claim", "unclear", "harm", "none"]


@dataclass(frozen=True)
class Headline:
    """The report's first sentence on a student as plain text, about `metric`.

    kind: claim, the interval of eta is above zero; unclear, it includes zero, or there is none; harm, it is below zero;
    none, eta is withheld.
    """

    kind: HeadlineKind
    text: str
    metric: str


def primary_metric(summary: Summary) -> str:
    """Return the metric the headline is about: GAUC, or AUC if the teacher has no GAUC; never the best-looking."""
    return "auc" if summary.models.teacher.gauc is None and summary.models.teacher.auc is not None else "gauc"


def headlines(summary: Summary) -> dict[str, Headline]:
    """Return the headline of each student, in the run's order."""
    metric = primary_metric(summary)
    return {name: headline(student, metric, summary.confidence) for name, student in summary.students.items()}


def headline(student: StudentSummary, metric: str, confidence: float) -> Headline:
    """Return what the run shows of one student in one sentence, no stronger than its interval allows."""
    eta = student.transferability.metric(metric)
    if eta.eta is None:
        return Headline("none", f"No claim: {eta.why}", metric)
    arrived = f"{eta.eta:.0%}".replace("%", " %") + " of the teacher's gain arrived"
    if eta.low is None or eta.high is None:
        return Headline("unclear", f"Not certain: {arrived} ({LABELS[metric]}, no interval)", metric)
    about = f"({LABELS[metric]}, {100 * confidence:g} % interval {_interval(eta.low, eta.high)})"
    if eta.low > 0:
        return Headline("claim", f"{arrived} {about}", metric)
    if eta.high < 0:
        return Headline("harm", f"Distillation hurt: {arrived} {about}", metric)
    return Headline("unclear", f"Not certain: {arrived} {about}; the interval includes zero", metric)


def _interval(low: float, high: float) -> str:
    between = "-" if low >= 0 else " to "
    return f"{100 * low:.0f}{between}{100 * high:.0f} %"
