"""The headline: one sentence per student, no stronger than the interval of its eta."""

from __future__ import annotations

import pytest

from recdistill.evaluate.headline import Headline, headlines
from recdistill.evaluate.summary import Summary, Transfer
from tests.support.summaries import sample_summary, withheld_summary


def with_eta(**gauc: float | str | None) -> Summary:
    """Return the sample with another eta on GAUC."""
    summary = sample_summary()
    transfer = summary.transferability.model_copy(update={"gauc": Transfer.model_validate(gauc)})
    first = summary.students["din-16"].model_copy(update={"transferability": transfer})
    return summary.model_copy(update={"transferability": transfer, "students": {"din-16": first}})


def test_the_teachers_gain_stands_on_all_three_metrics() -> None:
    gains = headline(sample_summary()).gains
    assert gains == "Teacher over raw student, positive is better: GAUC +0.0428, AUC +0.0310, NE +0.0008"
    assert headline(with_eta(why="no groups")).gains.endswith(": AUC +0.0310, NE +0.0008")


def headline(summary: Summary) -> Headline:
    """Return the headline of the first student."""
    return next(iter(headlines(summary).values()))


@pytest.mark.parametrize(
    ("eta", "kind", "text"),
    [
        (
            {"eta": 0.62, "low": 0.51, "high": 0.7},
            "claim",
            "62 % of the teacher's gain arrived (GAUC, 95 % interval 51-70 %)",
        ),
        (
            {"eta": 0.62, "low": 0.51, "high": 0.7, "loses_on": ["auc", "ne"]},
            "mixed",
            "Mixed: 62 % of the teacher's gain arrived (GAUC, 95 % interval 51-70 %), "
            "but the teacher is worse than the raw student on AUC and NE",
        ),
        (
            {"eta": 0.12, "low": -0.05, "high": 0.21, "why": "2 seeds are too few; add seeds"},
            "unclear",
            "Not certain: 12 % of the teacher's gain arrived (GAUC, 95 % interval -5 to 21 %); "
            "2 seeds are too few; add seeds",
        ),
        (
            {"eta": 0.12, "low": -0.05, "high": 0.21},
            "unclear",
            "Not certain: 12 % of the teacher's gain arrived (GAUC, 95 % interval -5 to 21 %); "
            "the interval includes zero",
        ),
        (
            {"eta": -0.18, "low": -0.3, "high": -0.05},
            "harm",
            "Distillation hurt: -18 % of the teacher's gain arrived (GAUC, 95 % interval -30 to -5 %)",
        ),
        ({"eta": 0.4}, "unclear", "Not certain: 40 % of the teacher's gain arrived (GAUC, no interval)"),
        (
            {"why": "the teacher's gain is inside the noise: 0.001"},
            "none",
            "No claim: the teacher's gain is inside the noise: 0.001",
        ),
    ],
)
def test_the_headline_claims_what_the_interval_allows(eta: dict[str, float], kind: str, text: str) -> None:
    shown = headline(with_eta(**eta))
    assert (shown.kind, shown.text, shown.metric) == (kind, text, "gauc")


def test_a_withheld_gauc_is_not_replaced_by_a_metric_that_looks_better() -> None:
    summary = with_eta(why="inside the noise")
    assert summary.transferability.auc.eta is not None
    assert headline(summary).kind == "none"


def test_without_any_gauc_the_headline_is_about_auc() -> None:
    assert headline(withheld_summary()).metric == "auc"
