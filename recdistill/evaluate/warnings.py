"""What a run says in words about its scores: one sentence per finding that a reader of the scores must know."""

from __future__ import annotations

from recdistill.evaluate.baselines import NAMES
from recdistill.evaluate.notes import DRAWN
from recdistill.evaluate.summary import ETAS, LABELS, ModelSummary, Summary

__all__ = ["HELP", "warnings_of"]

HELP = "docs/howto/my-teacher-is-not-better.md"


def warnings_of(summary: Summary) -> list[str]:
    """Return the findings of a summary, about the first task."""
    return [*_left_out(summary), *_below_baselines(summary), *_withheld(summary), *_mixed(summary), *_shared(summary)]


def _left_out(summary: Summary) -> list[str]:
    """Return a sentence per seed that diverged."""
    return [
        f"{name}: seed {one.seed} diverged and is left out, raw and distilled: NE of its {one.variant} student is "
        f"{one.ne:.4f}, the median over seeds {one.median:.4f}; lower the rates, or set dense_warmup or dense_clip"
        for name, student in summary.students.items()
        for one in student.left_out
    ]


def _below_baselines(summary: Summary) -> list[str]:
    """Return a sentence per model, teacher or distilled student of the whole window, and baseline that beats it."""
    models = {"teacher": summary.models.teacher}
    models |= {f"{name} distilled": one.distilled for name, one in summary.students.items() if not one.domain}
    found = []
    for name, model in models.items():
        for baseline, floor in summary.baselines.items():
            lost = [
                f"{LABELS[metric]} {model.metric(metric):.4f} against {floor.metric(metric):.4f}"
                for metric in ETAS
                if _loses(metric, model, floor)
            ]
            if lost:
                found.append(
                    f"{name} is worse than a baseline, {NAMES.get(baseline, baseline)}: {', '.join(lost)}; see {HELP}"
                )
    return found


def _withheld(summary: Summary) -> list[str]:
    """Return a sentence on what a first task that is a regression has not."""
    if not summary.models.teacher.is_regression:
        return []
    what = "baselines, simple rules, calibration bins, GAUC and the search for seeds that diverged"
    return [f"Task '{summary.tasks[0]}' is a regression: it has no {what}, which need outcomes of 0 and 1"]


def _loses(metric: str, model: ModelSummary, floor: ModelSummary) -> bool:
    value, least = model.metric(metric), floor.metric(metric)
    if value is None or least is None:
        return False
    return value > least if metric == "ne" else value < least


def _mixed(summary: Summary) -> list[str]:
    """Return a sentence per student that has an eta, and a teacher that loses on another metric."""
    found = []
    for name, student in summary.students.items():
        etas = {metric: student.transferability.metric(metric) for metric in student.transferability.names}
        shown = [LABELS[metric] for metric, eta in etas.items() if eta.loses_on]
        if shown:
            lost = [metric for metric in etas if any(metric in eta.loses_on for eta in etas.values())]
            gains = ", ".join(f"{LABELS[metric]} ({etas[metric].teacher_gain:+.4f})" for metric in lost)
            of = f"{name}: eta on {', '.join(shown)} is of a teacher that is worse than the raw student on"
            found.append(f"{of} {gains}; see {HELP}")
    return found


def _shared(summary: Summary) -> list[str]:
    """Return a sentence per eta above zero that is not so where what users share is drawn."""
    return [
        f"{name}: eta on {LABELS[metric]} is above zero where users are drawn, and not where {DRAWN[unit]} are: "
        f"{'not bounded' if low is None or high is None else f'{low:+.3f} to {high:+.3f}'}"
        for name, student in summary.students.items()
        for metric in student.transferability.names
        if ((eta := student.transferability.metric(metric)).low or 0.0) > 0
        for unit, (low, high) in eta.intervals.items()
        if low is None or low <= 0
    ]
