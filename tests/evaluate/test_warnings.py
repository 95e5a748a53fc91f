"""Warnings: what is found in a summary, and what is not."""

from __future__ import annotations

import pytest

from recdistill.evaluate.summary import ModelSummary, Summary
from recdistill.evaluate.warnings import HELP, warnings_of
from tests.support.paths import ROOT
from tests.support.summaries import sample_summary


def with_baseline(**metrics: float | None) -> Summary:
    """Return the sample with one baseline: below every model, but for the metrics given."""
    floor = {"auc": 0.5, "gauc": 0.5, "ne": 1.0}
    return sample_summary().model_copy(update={"baselines": {"counts": ModelSummary(**(floor | metrics))}})


def test_a_baseline_below_every_model_is_no_warning() -> None:
    assert warnings_of(with_baseline()) == []
    assert warnings_of(with_baseline(auc=None, gauc=None, ne=None)) == []


def test_models_below_a_baseline_are_named_with_both_figures() -> None:
    first, *rest = warnings_of(with_baseline(auc=0.785))
    assert first == (
        "teacher is worse than a baseline, logistic regression on four counts: AUC 0.7791 against 0.7850; see " + HELP
    )
    assert [line.split(" is ")[0] for line in rest] == ["din-16 distilled", "din-8 distilled"]


@pytest.mark.parametrize(("ne", "found"), [(0.86, True), (0.99, False)])
def test_of_normalized_entropy_the_lower_is_better(ne: float, found: bool) -> None:
    lines = warnings_of(with_baseline(ne=ne))
    assert any(f"NE 0.8718 against {ne:.4f}" in line for line in lines) == found


def test_a_student_of_a_domain_is_not_compared_with_a_baseline_of_all_rows() -> None:
    summary = with_baseline(auc=0.9)
    student = summary.students["din-8"].model_copy(update={"domain": {"country": "DE"}})
    lines = warnings_of(summary.model_copy(update={"students": {**summary.students, "din-8": student}}))
    assert not any(line.startswith("din-8") for line in lines) and len(lines) == 2


def test_the_page_that_a_warning_names_exists() -> None:
    assert (ROOT / HELP).is_file()


def test_an_eta_of_a_teacher_that_loses_on_another_metric_is_a_warning() -> None:
    summary = sample_summary()
    marked = {"gauc": {"loses_on": ["ne"]}, "auc": {"loses_on": ["ne"]}, "ne": {"teacher_gain": -0.0123}}
    etas = summary.transferability
    transfer = etas.model_copy(update={n: etas.metric(n).model_copy(update=one) for n, one in marked.items()})
    student = summary.students["din-8"].model_copy(update={"transferability": transfer})
    lines = warnings_of(summary.model_copy(update={"students": {**summary.students, "din-8": student}}))
    assert lines == [
        f"din-8: eta on GAUC, AUC is of a teacher that is worse than the raw student on NE (-0.0123); see {HELP}"
    ]


def test_an_eta_that_users_bound_and_items_do_not_is_a_warning() -> None:
    summary = sample_summary()
    etas, student = summary.transferability, summary.students["din-8"]
    intervals = {"user": (0.5, 0.7), "item": (-0.1, 1.2), "time": (0.2, 0.9)}
    gauc = etas.gauc.model_copy(update={"intervals": intervals, "widest": "item"})
    student = student.model_copy(update={"transferability": etas.model_copy(update={"gauc": gauc})})
    lines = warnings_of(summary.model_copy(update={"students": {**summary.students, "din-8": student}}))
    assert lines == [
        "din-8: eta on GAUC is above zero where users are drawn, and not where items are: -0.100 to +1.200"
    ]
