"""The category of each item as it was known at a moment, against plain dictionaries."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.errors import UserError
from recdistill.tables.delta.types import TIME
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema
from recdistill.train.categories import CategoryColumn

SCHEMA = EventSchema(
    ("click",), {"price": "float32", "genres": "list<string>", "shop": "string", "tags": "list<string>"}
)
HOUR = 3_600_000_000
LISTS = st.lists(st.sampled_from("uvw"), max_size=3)
ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["a", "b", None]), LISTS), min_size=1, max_size=20
)  # item, shop, tags


def store_of(folder: Path, rows: list[tuple[int, str | None, list[str]]]) -> SampleStore:
    """Return the store of a log of a row an hour, from hour 0."""
    columns = {
        "sample_id": pl.Int64,
        "time": TIME,
        "user_id": pl.Int64,
        "item_id": pl.Int64,
        "feature_price": pl.Float32,
    }
    columns |= {
        "feature_genres": pl.List(pl.String),
        "feature_shop": pl.String,
        "feature_tags": pl.List(pl.String),
        "label_click": pl.Float32,
    }
    values = [(k, k * HOUR, 1, item, 1.0, ["z"], shop, tags, 1.0) for k, (item, shop, tags) in enumerate(rows)]
    log = EventLog.create(folder / "events", SCHEMA)
    log.append(pl.DataFrame(values, schema=columns, orient="row"), writer="test", sequence=0)
    return build_store(folder / "store", log, None)


@settings(max_examples=25, deadline=None)
@given(rows=ROWS, hour=st.integers(0, 20), name=st.sampled_from(["shop", "tags"]))
def test_the_newest_value_before_the_moment_counts(
    rows: list[tuple[int, str | None, list[str]]], hour: int, name: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), rows)
        found = CategoryColumn.of(name, SCHEMA, store, "x").of_items(store, hour * HOUR)
        items = Vocabulary.load(store.folder / "items.parquet")
        code = dict(zip(range(7), items.encode(pl.Series(range(7), dtype=pl.Int64), grow=False), strict=True))
    expected: dict[int, str] = {}
    for item, shop, tags in rows[:hour]:
        value = shop if name == "shop" else next(iter(tags), None)
        if value is not None:
            expected[item] = value
    assert len(found) == store.items and found[0] == 0
    numbers: dict[str, int] = {}
    for item, _, _ in rows:
        number = int(found[code[item]])
        assert (number > 0) == (item in expected)
        if number:
            assert numbers.setdefault(expected[item], number) == number
    assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("shops", "key: no feature 'shops'; did you mean 'shop'"),
        ("hour", "key: no feature 'hour'"),
        ("price", "key: 'price' is a number; a category is a column of data.columns.categorical or lists"),
    ],
)
def test_what_is_no_category_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        CategoryColumn.of(name, SCHEMA, store_of(tmp_path, [(1, "a", [])]), "key")
