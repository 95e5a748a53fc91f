"""Which scores and rates are a warning, and with what cause."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.evaluate import metrics
from recdistill.evaluate.leaks import CAUSES, GroupRate, Leaks, RuleScore, one_sided

BEST = {"gauc": ("light", 0.60), "auc": ("light", 0.70)}


def leaks_of(*rules: RuleScore, rows: int = 40_000, base_rate: float = 0.25) -> Leaks:
    """Return a probe with these rules and a warning of its own."""
    about = {"task": "click", "group": "request", "start": 0.5, "version": 1, "users": 1.0}
    return Leaks(**about, rows=rows, base_rate=base_rate, rules=list(rules), groups=[], warnings=["before"])


@pytest.mark.parametrize(
    ("auc", "gauc", "named"),
    [
        (0.5, 0.60, None),
        (0.5, 0.62, "GAUC 0.6200"),
        (0.72, 0.5, "AUC 0.7200"),
        (0.72, 0.62, "GAUC"),
        (None, None, None),
    ],
)
def test_a_rule_above_the_raw_student_is_a_warning(auc: float | None, gauc: float | None, named: str | None) -> None:
    found = leaks_of(RuleScore(rule="pair", text="the pair's past", auc=auc, gauc=gauc)).against(BEST).warnings
    assert found[0] == "before" and len(found) == 1 + (named is not None)
    if named is not None:
        assert f"scores {named}" in found[1] and found[1].endswith(CAUSES["pair"]) and "student light has" in found[1]


def test_chance_alone_is_no_warning() -> None:
    rule = RuleScore(rule="age", text="age", auc=None, gauc=0.62)
    assert len(leaks_of(rule, rows=300).against(BEST).warnings) == 1  # 300 rows move an AUC by more
    assert len(leaks_of(rule, rows=40_000).against(BEST).warnings) == 2
    assert leaks_of(rows=100, base_rate=0.0).noise == 1.0


def test_noise_is_twice_the_deviation_of_a_blind_score() -> None:
    draw = np.random.default_rng(0)
    label = np.r_[np.ones(50), np.zeros(150)]
    aucs = [metrics.auc(label, draw.random(200)) for _ in range(4_000)]
    assert leaks_of(rows=200).noise == pytest.approx(2 * np.std(aucs), rel=0.05)


@pytest.mark.parametrize(
    ("group", "rows", "positives", "cause"),
    [
        ("met_negative", 1_000, 0, "never chooses at any time"),
        ("met_negative", 1_000, 2, "never chooses at any time"),  # as good as none
        ("met_negative", 1_000, 3, None),
        ("met_negative", 39, 0, None),  # chance would give 9.75
        ("met_positive", 1_000, 0, "not chosen again"),
        ("met_positive", 1_000, 1_000, "data.negatives.exclude"),
        ("seen", 100, 100, "data.negatives.exclude"),
        ("popularity_hour", 100, 100, "data.negatives.positives"),
        ("new", 13, 13, None),
        ("new", 14, 14, "data.negatives.positives"),
        ("first", 100, 100, "shuffle each list"),
        ("nulls", 100, 0, "once the outcome is known"),
    ],
)
def test_a_group_with_one_outcome_is_a_warning(group: str, rows: int, positives: int, cause: str | None) -> None:
    found = one_sided([GroupRate(group=group, text="Some rows", rows=rows, positives=positives)], 0.25)
    assert len(found) == (cause is not None)
    if cause is not None:
        assert found[0].startswith(f"Some rows: {positives:,} of {rows:,} rows are positive") and cause in found[0]
