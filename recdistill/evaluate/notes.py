"""Parts of a summary in words, the same on the console, in the report and in a comparison."""

from __future__ import annotations

from recdistill.evaluate.summary import LABELS, ModelSummary, Transfer

__all__ = ["DRAWN", "lost_note", "training_of", "widest_note"]

DRAWN = {"user": "users", "item": "items", "time": "stretches of time"}


def widest_note(eta: Transfer) -> str:
    """Return in words eta's intervals where others than users are drawn, and which is the widest; empty without any."""
    others = [unit for unit in eta.intervals if unit != "user"]
    if eta.widest is None or not others:
        return ""
    shown = ", ".join(f"{DRAWN[unit]} {_between(*eta.intervals[unit])}" for unit in others)
    return f"interval with others drawn: {shown}; the widest is over {DRAWN[eta.widest]}"


def _between(low: float | None, high: float | None) -> str:
    return "not bounded" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"


def training_of(model: ModelSummary) -> str:
    """Return in words what a model's training took, as far as it is known; empty where nothing is."""
    parts = [
        None if model.rows_learned is None else f"{model.rows_learned:,.0f} rows",
        None if model.steps is None else f"{model.steps:,.0f} steps",
        None if model.seconds is None else f"{model.seconds:,.1f} s",
        None if model.flops is None else f"{model.flops / 1e12:,.3g} TFLOP",
    ]
    return ", ".join(part for part in parts if part is not None)


def lost_note(eta: Transfer) -> str:
    """Return the mark of an eta whose teacher loses on other metrics, to be put behind it; empty where it does not."""
    lost = ", ".join(LABELS[metric] for metric in eta.loses_on)
    return f" (the teacher loses on {lost})" if lost else ""
