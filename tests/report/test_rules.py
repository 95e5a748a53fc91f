"""The report's table of simple rules: what it shows, and that the user's text is escaped."""

from __future__ import annotations

from recdistill.evaluate.leaks import GroupRate, Leaks, RuleScore
from recdistill.report.page import render
from recdistill.report.rules import rules
from tests.support.summaries import sample_summary

LEAKS = Leaks(
    task="click",
    group="user",
    start=0.5,
    version=1,
    users=1.0,
    rows=1_000,
    base_rate=0.25,
    rules=[
        RuleScore(rule="pair", text="what became of the pair", auc=0.611, gauc=0.5),
        RuleScore(rule="age", text="the age", auc=None, gauc=None),
    ],
    groups=[
        GroupRate(group="nulls", text="Rows without '<b>'", rows=200, positives=0),
        GroupRate(group="new", text="Items that are new", rows=0, positives=0),
    ],
    warnings=["Rows without '<b>': 0 of 200 rows are positive"],
)


def test_the_table_shows_rules_students_and_rates() -> None:
    summary = sample_summary().model_copy(update={"leaks": LEAKS})
    section = rules(summary)
    assert "<th>What became of the pair</th><td>0.6110</td><td>0.5000</td>" in section
    assert "<th>Raw student din-16</th><td>0.7481</td><td>0.7392</td>" in section
    assert "one class only" in section and "Items that are new" not in section
    assert "rows without &#x27;&lt;b&gt;&#x27; 0.0\u202f% of 200 rows" in section
    assert "<b>" not in section and section in render(summary)


def test_a_summary_without_the_probe_has_no_section() -> None:
    assert rules(sample_summary()) == "" and "What simple rules score" not in render(sample_summary())
