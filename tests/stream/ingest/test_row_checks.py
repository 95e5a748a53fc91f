"""What is wrong with single rows: a reason per row that names the column, and null for rows that are right."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from recdistill.stream.ingest.row_checks import SKEW, row_faults
from recdistill.stream.sources.wire import Kind
from recdistill.tables.delta.types import TIME
from recdistill.tables.schema import EventSchema
from tests.support.arrivals import outcomes
from tests.support.tables import actions, events

GOOD: dict[Kind, pl.DataFrame] = {"events": events([1]), "behaviors": actions([1]), "outcomes": outcomes([1])}

CLICK = EventSchema(tasks=("click",))


def at(moment: datetime) -> pl.Expr:
    return pl.lit(moment).cast(pl.Datetime("us", "UTC"))


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_right_has_no_reason(kind: Kind) -> None:
    assert row_faults(GOOD[kind], kind, CLICK).to_list() == [None]


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
    assert row_faults(rows, kind, CLICK).to_list() == [None, reason]


def test_a_soft_label_is_anything_from_0_to_1() -> None:
    rows = pl.concat([events([1]).with_columns(label_click=pl.lit(y, pl.Float32)) for y in (0.5, 1.5, float("nan"))])
    reason = "column 'label_click': must be from 0 to 1, or empty"
    assert row_faults(rows, "events", replace(CLICK, soft=("click",))).to_list() == [None, reason, reason]


@pytest.mark.parametrize(("loss", "wrong"), [("log", -0.5), ("huber", float("inf"))])
def test_values_and_weights_have_their_own_rules(loss: str, wrong: float) -> None:
    schema = replace(CLICK, regression={"click": (loss, 1.0)}, has_weight=True)
    rows = pl.concat([events([1]).with_columns(label_click=pl.lit(y, pl.Float32)) for y in (7.5, wrong, None)])
    weighted = [rows.with_columns(weight=pl.lit(w, pl.Float32)) for w in (0.0, -1.0, None, float("nan"))]
    reasons = [row_faults(some, "events", schema).to_list() for some in weighted]
    assert reasons[0][0] is reasons[0][2] is None and "column 'label_click': must be a finite number" in reasons[0][1]
    for wrong_weights in reasons[1:]:
        assert all("column 'weight': must be a finite number of at least 0" in one for one in wrong_weights)


def test_an_unknown_label_is_right() -> None:
    assert row_faults(events([1]).with_columns(label_click=pl.lit(None, pl.Float32)), "events", CLICK)[0] is None


def test_a_clock_may_be_ahead_by_the_skew_and_no_more() -> None:
    soon = datetime.now(UTC) + SKEW
    rows = pl.concat([events([1]).with_columns(time=at(soon + timedelta(seconds=s))) for s in (-60, 60)])
    assert row_faults(rows, "events", CLICK).to_list() == [
        None,
        "column 'time': lies in the future; check the producer's clock and time unit",
    ]


def test_with_a_correction_each_row_says_how_probable_its_draw_was() -> None:
    values = [-1.5, 0.0, None, 0.5, float("nan"), float("-inf")]
    rows = events(range(1, 7)).with_columns(log_q=pl.Series(values, dtype=pl.Float32))
    wrong = "column 'log_q': must be the logarithm of a probability"
    assert row_faults(rows, "events", replace(CLICK, negatives=1, corrected=True)).to_list() == [
        *(None, None, "column 'log_q': must not be empty"),
        *(wrong, wrong, wrong),
    ]
    assert row_faults(rows, "events", CLICK).null_count() == len(rows)


def test_a_sequence_that_cannot_be_is_named() -> None:
    early, time = (datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2))
    lists = [([1, 2], [early, early]), ([], []), (None, None), ([1], [time]), ([1], []), ([None], [early])]
    rows = pl.concat([events([1]).with_columns(time=at(time))] * len(lists)).with_columns(
        sequence_carts=pl.Series([one[0] for one in lists], dtype=pl.List(pl.Int64)),
        times_carts=pl.Series([one[1] for one in lists], dtype=pl.List(TIME)),
    )
    assert row_faults(rows, "events", replace(CLICK, sequences={"carts": True})).to_list() == [
        None,
        None,
        None,
        "column 'times_carts': must hold times before the row's own",
        "column 'times_carts': must have a time for each item",
        "column 'sequence_carts': an entry must not be empty",
    ]
