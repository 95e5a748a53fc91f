"""The schema of an events table: its columns in order, back from its JSON, and what it refuses."""

from __future__ import annotations

import json

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema

WHOLE = EventSchema(
    tasks=("click", "buy"),
    features={"device": "int64", "price": "float32", "tags": "list<string>"},
    user_id="string",
    has_request=True,
    label_times=("buy",),
    keep_rates={"click": (1.0, 0.1)},
    edges={"price": (-1.5, 0.1, 3.4028234663852886e38)},
    list_length=20,
)


def test_it_comes_back_from_its_json() -> None:
    assert EventSchema.from_json(WHOLE.to_json()) == WHOLE
    assert EventSchema.from_json(WHOLE.to_json()).to_json() == WHOLE.to_json()


def test_a_table_of_another_version_is_refused_in_one_line() -> None:
    tree = json.loads(WHOLE.to_json())
    for other in ({**tree, "later": 1}, {key: value for key, value in tree.items() if key != "edges"}):
        with pytest.raises(UserError, match="the tables are of another version of recdistill; ingest the log into"):
            EventSchema.from_json(json.dumps(other))


def test_columns_come_in_order_with_their_types() -> None:
    assert list(WHOLE.columns()) == [
        *("sample_id", "time", "user_id", "item_id", "request_id", "feature_device", "feature_price", "feature_tags"),
        *("label_click", "label_buy", "label_time_buy"),
    ]
    assert WHOLE.columns()["user_id"] == pl.String and WHOLE.columns()["item_id"] == pl.Int64
    assert "request_id" not in EventSchema(("click",)).columns()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"features": {"device": "int32"}}, "feature 'device': type 'int32' is not one of int64, float32"),
        ({"keep_rates": {"click": (1.0, 0.0)}}, r"keep rates of 'click' must be in \(0, 1\]; got \(1.0, 0.0\)"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EventSchema(("click",), **keys)  # type: ignore[arg-type]


def test_rows_without_requests_are_not_grouped_by_them() -> None:
    WHOLE.check_group("request")
    EventSchema(("click",)).check_group("user")
    with pytest.raises(UserError, match="the log has no request ids"):
        EventSchema(("click",)).check_group("request")
