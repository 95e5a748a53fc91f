"""What is wrong with single rows: a reason per row that names the column, and null for rows that are right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from recdistill.stream.ingest.row_checks import SKEW, row_faults
from recdistill.stream.sources.wire import Kind
from recdistill.tables.delta.types import TIME
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


def test_a_sequence_that_cannot_be_is_named() -> None:
    early, time = (datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2))
    lists = [([1, 2], [early, early]), ([], []), (None, None), ([1], [time]), ([1], []), ([None], [early])]
    rows = pl.concat([events([1]).with_columns(time=at(time))] * len(lists)).with_columns(
        sequence_carts=pl.Series([one[0] for one in lists], dtype=pl.List(pl.Int64)),
        times_carts=pl.Series([one[1] for one in lists], dtype=pl.List(TIME)),
    )
    assert row_faults(rows, "events", ("click",), {"carts": True}).to_list() == [
        None,
        None,
        None,
        "column 'times_carts': must hold times before the row's own",
        "column 'times_carts': must have a time for each item",
        "column 'sequence_carts': an entry must not be empty",
    ]
