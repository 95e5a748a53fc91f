"""The one sentence a run may say: what its interval allows, and never more."""

from __future__ import annotations

from dataclasses import dataclass

from recdistill.evaluate.summary import LABELS, Summary

__all__ = ["Verdict", "headline", "primary_metric"]


@dataclass(frozen=True)
class Verdict:
    """The report's first sentence as plain text, about `metric`; `kind` is claim, unclear, harm or none."""

    kind: str
    text: str
    metric: str


def primary_metric(summary: Summary) -> str:
    """Return the metric the headline is about: GAUC, or AUC if the teacher has no GAUC; never the best-looking."""
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
