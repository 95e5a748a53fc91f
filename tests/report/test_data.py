"""The report's section on the log: what it shows, and that the user's text is escaped."""

from __future__ import annotations

from datetime import UTC, datetime

from recdistill.evaluate.data_summary import DataSummary, FeatureSummary, Ids, SequenceSummary, TaskRate
from recdistill.report.data import data
from recdistill.report.page import render
from tests.support.summaries import sample_summary

DATA = DataSummary(
    version=1,
    rows=12_000,
    first=datetime(2026, 3, 1, tzinfo=UTC),
    last=datetime(2026, 3, 4, 7, 30, tzinfo=UTC),
    users=Ids(distinct=200, once=3),
    items=Ids(distinct=50, once=0),
    requests=1_500,
    repeated=7,
    tasks=[TaskRate(task="click", rows=12_000, positive=0.498), TaskRate(task="buy", rows=0, positive=None)],
    features=[
        FeatureSummary(feature="<b>", kind="category", empty=0.97, values=9, largest=0.4, auc={"click": 0.5123}),
        FeatureSummary(
            feature="price",
            kind="number",
            empty=0.0,
            values=11_900,
            buckets=34,
            edges="quantile",
            scale="(x - 3) / 2",
            largest=0.03,
        ),
        FeatureSummary(feature="tags", kind="list", empty=0.1, values=30, lists_cut=4, entries_cut=9),
    ],
    sequences=[SequenceSummary(sequence="a&b", empty=0.25, mean=3.5, longest=9)],
)


def test_the_section_shows_the_log_and_each_feature() -> None:
    summary = sample_summary().model_copy(update={"data": DATA})
    section = data(summary)
    assert "<dd>1 Mar 2026 00:00 to 4 Mar 2026 07:30 UTC</dd>" in section and "<dd>8.0</dd>" in section
    assert (
        "200, of which 3 in one row only" in section and "click 49.8\u202f% of 12\u202f000 known, buy – of 0" in section
    )
    assert '<th>&lt;b&gt;</th><td data-name="Kind">category</td><td data-name="Empty">97.0\u202f%</td>' in section
    assert '<td data-name="AUC alone">0.512</td>' in section and '<td data-name="Buckets">34, quantile</td>' in section
    assert '<td data-name="As a value">(x - 3) / 2</td>' in section
    assert "<dt>Sequence a&amp;b</dt><dd>empty in 25 % of the rows, else 3.5 entries, at most 9</dd>" in section
    assert "<b>" not in section and section in render(summary)
    noted = data(summary.model_copy(update={"data": DATA.model_copy(update={"notes": ["negatives: <i>3</i>"]})}))
    assert '<p class="note">When it was read: negatives: &lt;i&gt;3&lt;/i&gt;.</p>' in noted


def test_what_is_not_there_has_a_reason_or_no_section() -> None:
    bare = DATA.model_copy(update={"features": [], "requests": None})
    section = data(sample_summary().model_copy(update={"data": bare}))
    assert (
        "the log has no request ids" in section
        and "<dd>7 with user, item and time" in section
        and "<table" not in section
    )
    assert data(sample_summary()) == "" and "<h2>The log</h2>" not in render(sample_summary())
