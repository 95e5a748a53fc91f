"""Warnings and baselines on the page, and nothing where there is none."""

from __future__ import annotations

from recdistill.evaluate.summary import ModelSummary
from recdistill.report.cautions import baselines, warnings
from recdistill.report.page import render
from tests.support.summaries import sample_summary


def test_warnings_are_shown_and_escaped() -> None:
    summary = sample_summary().model_copy(update={"warnings": ["a <b> & c", "second"]})
    assert "<li>a &lt;b&gt; &amp; c</li><li>second</li>" in warnings(summary)
    assert warnings(summary) in render(summary)
    assert warnings(sample_summary()) == ""


def test_baselines_stand_beside_every_model() -> None:
    floor = ModelSummary(auc=0.61234, ne=0.98, why={"gauc": "no group has both a positive and a negative"})
    summary = sample_summary().model_copy(update={"baselines": {"counts": floor}})
    table = baselines(summary)
    assert "Baseline: logistic regression on four counts" in table and "0.6123" in table
    assert "no group has both" in table and all(f"{name}, distilled" in table for name in summary.students)
    assert table in render(summary) and baselines(sample_summary()) == ""
