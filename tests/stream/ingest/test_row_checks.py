"""What is wrong with single rows: a reason per row that names the column, and null for rows that are right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from recdistill.stream.ingest.row_checks import SKEW, row_faults
from recdistill.stream.sources.wire import Kind
from tests.support.arrivals import outcomes
from tests.support.tables import actions, events

GOOD: dict[Kind, pl.DataFrame] = {"events": events([1]), "behaviors": actions([1]), "outcomes": outcomes([1])}


def at(moment: datetime) -> pl.Expr:
    return pl.lit(moment).cast(pl.Datetime("us", "UTC"))


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_right_has_no_reason(kind: Kind) -> None:
    assert row_faults(GOOD[kind], kind, ("click",)).to_list() == [None]


@pytest.mark.parametrize(
    ("kind", "wrong", "reason"),
    [
        ("events", {"sample_id": None}, "column 'sample_id': must not be empty"),
        ("events", {"user_id": None}, "column 'user_id': must not be empty"),
        ("events", {"label_click": 0.5}, "column 'label_click': must be 0, 1 or empty"),
        ("behaviors", {"action": None}, "column 'action': must not be empty"),
        ("outcomes", {"task": "buy"}, "column 'task': must be one of click"),
        ("outcomes", {"label": 2.0}, "column 'label': must be 0 or 1"),
        ("outcomes", {"time": None}, "column 'time': must not be empty"),
    ],
)
def test_a_reason_names_the_column(kind: Kind, wrong: dict[str, object], reason: str) -> None:
    good = GOOD[kind]
    (name, value), *_ = wrong.items()
    rows = pl.concat([good, good.with_columns(pl.lit(value).cast(good.schema[name]).alias(name))])
    assert row_faults(rows, kind, ("click",)).to_list() == [None, reason]


def test_an_unknown_label_is_right() -> None:
    assert row_faults(events([1]).with_columns(label_click=pl.lit(None, pl.Float32)), "events", ("click",))[0] is None


def test_a_clock_may_be_ahead_by_the_skew_and_no_more() -> None:
    soon = datetime.now(UTC) + SKEW
    rows = pl.concat([events([1]).with_columns(time=at(soon + timedelta(seconds=s))) for s in (-60, 60)])
    assert row_faults(rows, "events", ("click",)).to_list() == [
        None,
        "column 'time': lies in the future; check the producer's clock and time unit",
    ]


def test_with_a_correction_each_row_says_how_probable_its_draw_was() -> None:
    values = [-1.5, 0.0, None, 0.5, float("nan"), float("-inf")]
    rows = events(range(1, 7)).with_columns(log_q=pl.Series(values, dtype=pl.Float32))
    wrong = "column 'log_q': must be the logarithm of a probability"
    assert row_faults(rows, "events", ("click",), drawn=True).to_list() == [
        *(None, None, "column 'log_q': must not be empty"),
        *(wrong, wrong, wrong),
    ]
    assert row_faults(rows, "events", ("click",)).null_count() == len(rows)
