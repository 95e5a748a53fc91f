"""The sentence that sums up a student: what its interval allows, never more, and what the teacher gains on every
metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recdistill.evaluate.summary import LABELS, StudentSummary, Summary, Transfers

__all__ = ["Headline", "HeadlineKind", "headline", "headlines", "primary_metric"]

HeadlineKind = Literal["claim", "mixed", "unclear", "harm", "none"]


@dataclass(frozen=True)
class Headline:
    """The report's first sentence on a student as plain text, about `metric`; gains: a second one, of the teacher
    against the raw student on GAUC, AUC and NE, of a regression on XAUC, MAE and RMSE.

    kind: claim, the interval of eta is above zero; mixed, likewise, of a teacher that loses on another metric; unclear,
    it includes zero, or there is none; harm, it is below zero; none, eta is withheld.
    """

    kind: HeadlineKind
    text: str
    metric: str
    gains: str


def primary_metric(summary: Summary) -> str:
    """Return the metric the headline is about: GAUC, or AUC if the teacher has no GAUC, of a regression XAUC, the order
    of what is ranked; never the best-looking.
    """
    if summary.models.teacher.is_regression:
        return "xauc"
    return "auc" if summary.models.teacher.gauc is None and summary.models.teacher.auc is not None else "gauc"


def headlines(summary: Summary) -> dict[str, Headline]:
    """Return the headline of each student, in the run's order."""
    metric = primary_metric(summary)
    return {name: headline(student, metric, summary.confidence) for name, student in summary.students.items()}


def headline(student: StudentSummary, metric: str, confidence: float) -> Headline:
    """Return what the run shows of one student, no stronger than its interval and the teacher's other metrics allow."""
    kind, text = _claim(student, metric, confidence)
    return Headline(kind, text, metric, ". ".join([_gains(student.transferability), *_beyond(student, metric)]))


def _beyond(student: StudentSummary, metric: str) -> list[str]:
    """Return how much of the teacher's gain arrived beyond each control that is known."""
    found = []
    for name, control in student.controls.items():
        eta = control.beyond.metric(metric)
        if eta.eta is not None and eta.low is not None and eta.high is not None:
            share = f"{eta.eta:.0%}".replace("%", " %")
            found.append(f"Beyond the control {name}: {share} ({LABELS[metric]}, {_interval(eta.low, eta.high)})")
    return found


def _claim(student: StudentSummary, metric: str, confidence: float) -> tuple[HeadlineKind, str]:
    eta = student.transferability.metric(metric)
    if eta.eta is None:
        return "none", f"No claim: {eta.why}"
    arrived = f"{eta.eta:.0%}".replace("%", " %") + " of the teacher's gain arrived"
    if eta.low is None or eta.high is None:
        return "unclear", f"Not certain: {arrived} ({LABELS[metric]}, no interval)"
    about = f"({LABELS[metric]}, {100 * confidence:g} % interval {_interval(eta.low, eta.high)})"
    if eta.high < 0:
        return "harm", f"Distillation hurt: {arrived} {about}"
    if eta.low <= 0:
        return "unclear", f"Not certain: {arrived} {about}; {eta.why or 'the interval includes zero'}"
    if eta.loses_on:
        lost = " and ".join(LABELS[other] for other in eta.loses_on)
        return "mixed", f"Mixed: {arrived} {about}, but the teacher is worse than the raw student on {lost}"
    return "claim", f"{arrived} {about}"


def _gains(transfer: Transfers) -> str:
    """Return what the teacher gains over the raw student, on each metric that is known."""
    gains = [(metric, transfer.metric(metric).teacher_gain) for metric in transfer.names]
    known = ", ".join(f"{LABELS[metric]} {gain:+.4f}" for metric, gain in gains if gain is not None)
    return f"Teacher over raw student, positive is better: {known}" if known else "Teacher over raw student: not known"


def _interval(low: float, high: float) -> str:
    between = "-" if low >= 0 else " to "
    return f"{100 * low:.0f}{between}{100 * high:.0f} %"
