"""An ablation sorts methods by what arrived, those without an eta by their gain, after all others."""

from __future__ import annotations

from recdistill.evaluate.ablation import ablation_of
from recdistill.evaluate.summary import StudentSummary, Summary, Transfer
from recdistill.report.ablation import render
from tests.support.summaries import sample_summary


def student(base: StudentSummary, eta: float | None, gauc: float) -> StudentSummary:
    """Return `base` with another eta on GAUC and another GAUC of its distilled model."""
    transfer = Transfer(eta=eta) if eta is not None else Transfer(why="inside the noise")
    return base.model_copy(
        update={
            "transferability": base.transferability.model_copy(update={"gauc": transfer}),
            "distilled": base.distilled.model_copy(update={"gauc": gauc}),
        }
    )


def run() -> Summary:
    """Return a run with a student per method."""
    summary = sample_summary()
    base = summary.students["din-16"]
    methods = {"low": (0.1, 0.741), "none": (None, 0.79), "high": (0.9, 0.77), "<nothing>": (None, 0.73)}
    return summary.model_copy(update={"students": {name: student(base, *found) for name, found in methods.items()}})


def test_methods_are_sorted_by_eta_then_by_gain() -> None:
    summary = run()
    sizes = {name: at for at, name in enumerate(summary.students)}
    found = ablation_of(summary, {name: {"weight": 1.0} for name in sizes}, sizes, {})
    assert [method.name for method in found.methods] == ["high", "low", "none", "<nothing>"]
    assert [method.bytes_per_sample for method in found.methods] == [2, 0, 1, 3]
    raw, distilled = (summary.students["low"].raw, summary.students["low"].distilled)
    assert found.methods[0].step_cost == raw.rows_per_second / distilled.rows_per_second  # type: ignore[operator]
    assert "&lt;nothing&gt;" in render(found) and "<nothing>" not in render(found)
