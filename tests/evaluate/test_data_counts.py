"""What a log holds, against counting it by hand, in chunks of any size; what is odd in it is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.buckets import bucket_of
from recdistill.data.scales import ANY_VALUE, scale_words
from recdistill.data.store.sample_store import build_store
from recdistill.evaluate import data_counts
from recdistill.evaluate.data_counts import describe
from recdistill.evaluate.data_summary import DataSummary, Ids, data_sentence
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema
from tests.data.store.test_sample_store import STAMP, START

SCHEMA = EventSchema(
    ("click", "buy"),
    {"kind": "string", "price": "float32", "tags": "list<string>"},
    has_request=True,
    edges={"price": (0.0, 0.5, 3.0)},
    list_length=2,
)
ROW = st.tuples(
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(-1, 4),
    st.sampled_from([None, "a", "b", "c"]),
    st.sampled_from([None, 0.0, -0.0, 0.25, 0.5, 2.0, 9.0, float("nan"), float("inf")]),
    st.none() | st.lists(st.none() | st.sampled_from("xyz"), max_size=4),
    st.sampled_from([None, 0.0, 1.0]),
)
NAMES = ("user_id", "item_id", "request_id", "feature_kind", "feature_price", "feature_tags", "label_click")


def events_of(folder: Path, values: list[tuple[Any, ...]], steps: list[int]) -> EventLog:
    """Return a log of these rows, whose times rise by `steps` seconds, the last again and again."""
    times = [START + 1_000_000 * sum(steps[: k + 1]) for k in range(len(values))]
    columns = {name: [row[k] for row in values] for k, name in enumerate(NAMES)}
    rows = pl.DataFrame(
        {"sample_id": range(len(values)), "time": pl.Series(times).cast(STAMP), **columns}, strict=False
    )
    rows = rows.with_columns(label_buy=pl.lit(0.0), request_id=pl.col("request_id").replace(-1, None))
    rows = rows.select(pl.col(name).cast(kind) for name, kind in SCHEMA.columns().items())
    log = EventLog.create(folder, SCHEMA)
    log.append(rows, writer="t", sequence=0)
    return log


def described(values: list[tuple[Any, ...]], steps: list[int], chunk: int = 131_072) -> DataSummary:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_counts, "CHUNK", chunk)
        events = events_of(Path(folder) / "events", values, steps)
        return describe(build_store(Path(folder) / "store", events, None), events, events.version)


def once(ids: list[int]) -> Ids:
    counts = Counter(ids)
    return Ids(distinct=len(counts), once=sum(count == 1 for count in counts.values()))


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=30), st.lists(st.integers(0, 1), max_size=30), st.integers(1, 9))
def test_everything_is_counted_as_by_hand(values: list[tuple[Any, ...]], steps: list[int], chunk: int) -> None:
    data, n = described(values, steps, chunk), len(values)
    assert data.rows == n and data.users == once([row[0] for row in values])
    assert data.items == once([row[1] for row in values])
    assert data.requests == len({(row[0], row[2]) for row in values if row[2] >= 0})
    at = [sum(steps[: k + 1]) for k in range(n)]
    assert data.repeated == n - len({(row[0], row[1], time) for row, time in zip(values, at, strict=True)})
    labels = [row[6] for row in values if row[6] is not None]
    click, buy = data.tasks
    assert (click.rows, buy.rows, buy.positive) == (len(labels), n, 0.0)
    assert click.positive == (pytest.approx(sum(labels) / len(labels)) if labels else None)
    kind, price, tags = data.features
    words = Counter(row[3] for row in values if row[3] is not None)
    assert (kind.values, kind.empty) == (len(words), pytest.approx(1 - words.total() / n))
    assert kind.largest == (pytest.approx(max(words.values()) / words.total()) if words else None)
    numbers = [row[4] for row in values if row[4] is not None and abs(row[4]) < 1e9]
    used = Counter(bucket_of(pl.Series(numbers, dtype=pl.Float64).to_numpy(), SCHEMA.edges["price"]).tolist())
    assert (price.values, price.buckets) == (len(set(numbers)), len(used))
    assert (price.edges, price.scale) == ("quantile", scale_words(ANY_VALUE)) and (kind.edges, kind.scale) == (
        None,
        None,
    )
    assert price.empty == pytest.approx(1 - len(numbers) / n)
    lists = [[one for one in row[5] or [] if one is not None] for row in values]
    assert tags.empty == pytest.approx(sum(not one for one in lists) / n)
    assert tags.lists_cut == sum(len(one) > 2 for one in lists)
    assert tags.entries_cut == sum(max(len(one) - 2, 0) for one in lists)
    assert tags.values == len({entry for one in lists for entry in one[-2:]})


def test_what_is_odd_is_named() -> None:
    values = [(k % 4, k % 3, k, "a", 0.1 + k / 1e4, None if k else ["x", "y", "z"], float(k % 2)) for k in range(100)]
    data = described(values + [values[-1]] * 20, [1] * 100)
    assert [line.partition(";")[0] for line in data.warnings()] == [
        "Every known label of buy is 0: there is nothing to learn from",
        "16.7 % of the rows have user, item and time of an earlier row: the log may hold rows twice",
        "Feature 'kind' is constant: models see one value in every row that has any",
        "Feature 'price' is constant: models see one value in every row that has any",
        "Feature 'tags' is empty in 99.2 % of the rows",
        "Feature 'tags': 1 of 120 lists are longer than data.list_length, and their oldest 1 entries are left out",
    ]
    assert "its 100 values fall into one bucket" in data.warnings()[3]
    text = data_sentence(data)
    assert text.startswith(
        "click 58.3 % positive of 120 known, buy 0 % positive of 120 known; 0 of 4 users and 0 of 3 "
    )
    assert text.endswith("1.2 rows per request; 20 rows repeat user, item and time of an earlier one")


def test_a_feature_that_is_the_label_is_named() -> None:
    values = [(k % 4, k % 3, k, "ab"[k % 2], 0.1 * (k % 9), ["x"], float(k % 2)) for k in range(100)]
    (line,) = (line for line in described(values, [1] * 100).warnings() if "alone" in line)
    assert line.startswith("Feature 'kind' alone scores AUC 1.0000 on click. Likely cause: it is the label")
