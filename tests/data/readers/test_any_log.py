"""Any log survives log -> tables -> store -> batch with the values that were written, or is refused in a line."""

from __future__ import annotations

import math
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.keys import context_key
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.errors import UserError
from recdistill.tables.events import EventLog
from tests.support.written import opened

N = 6
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=6)
INT = st.integers(-(2**63), 2**63 - 1)
SPECIAL = st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.1, 12.0, 1e-45, 3.4e38, 1e302, 2.0**53, 1e16])
FLOAT = st.floats(width=32) | SPECIAL
KINDS: dict[str, tuple[st.SearchStrategy, pl.DataType]] = {
    "int": (INT, pl.Int64()),
    "small": (st.integers(-128, 127), pl.Int8()),
    "unsigned": (st.integers(0, 2**64 - 1), pl.UInt64()),
    "float": (FLOAT, pl.Float64()),
    "half": (st.floats(width=32), pl.Float32()),
    "bool": (st.booleans(), pl.Boolean()),
    "text": (TEXT | st.sampled_from(["007", "7", " 7", "7.0", "+7", "-7", "1e3", "NaN", "true"]), pl.String()),
    "enum": (st.sampled_from(["a", "b"]), pl.Categorical()),
    "decimal": (st.integers(-999, 999).map(lambda k: Decimal(k) / 100), pl.Decimal(10, 2)),
    "date": (st.dates(date(1960, 1, 1), date(2300, 1, 1)), pl.Date()),
}
KIND = st.sampled_from(list(KINDS))
START = datetime(2024, 1, 1, tzinfo=UTC)


def column(draw: st.DrawFn, kind: str, empty: bool) -> pl.Series:
    """Return N values of a kind, some of them null where they may be."""
    values, dtype = KINDS[kind]
    given = draw(st.lists(st.none() | values if empty else values, min_size=N, max_size=N))
    return (
        pl.Series(given, strict=False).cast(dtype)
        if any(one is not None for one in given)
        else pl.Series(given, dtype=dtype)
    )


def written(value: object) -> str | None:
    """Return what a value stands for as text: whole numbers alike from any type, None where it is missing."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value else "0"
    return str(value)


def same(made: object, value: object, kind: pl.DataType) -> bool:
    """Return whether an id or category is what was written; fractions in the shortest text of their type."""
    if isinstance(value, float) and written(value) == str(value) and isinstance(made, str):
        exact = np.float32 if kind == pl.Float32 else np.float64
        return bool(exact(made) == exact(value))
    return (None if made is None else str(made)) == written(value)


@st.composite
def logs(draw: st.DrawFn) -> tuple[pl.DataFrame, str]:
    """Return a log with a column of any kind for everything, and the form to write it in."""
    label = st.none() | st.sampled_from([0.0, 1.0, math.nan])
    steps = draw(st.lists(st.integers(0, 9), min_size=N, max_size=N))
    frame = pl.DataFrame({
        "time": [START + timedelta(seconds=int(k)) for k in np.cumsum(steps)],
        "user_id": column(draw, draw(KIND), empty=False),
        "item_id": column(draw, draw(KIND), empty=False),
        "date": column(draw, draw(KIND), empty=True),
        "hour": column(draw, draw(st.sampled_from(["int", "small", "float", "half", "decimal"])), empty=True),
        "list": draw(st.lists(st.none() | st.lists(st.none() | TEXT, max_size=4), min_size=N, max_size=N)),
        "label": pl.Series(draw(st.lists(label, min_size=N, max_size=N)), dtype=pl.Float64),
    }, schema_overrides={"list": pl.List(pl.String)}, strict=False)  # fmt: skip
    return frame, "parquet"


def ingested(frame: pl.DataFrame, form: str, folder: Path) -> tuple[pl.DataFrame, SampleStore]:
    """Return the events and the store of a log."""
    log = opened(frame, folder, form, categorical=["date"], numeric=["hour"], lists={"list": "|"})
    events = EventLog.create(folder / "events", log.schema)
    for sequence, chunk in enumerate(log.batches()):
        events.append(chunk, writer="test", sequence=sequence)
    return pl.concat(events.batches()), build_store(folder / "store", events, None)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(logs())
def test_what_was_written_is_what_a_batch_holds(log: tuple[pl.DataFrame, str]) -> None:
    frame, form = log
    with tempfile.TemporaryDirectory() as place:
        try:
            events, store = ingested(frame, form, Path(place))
        except UserError as error:
            assert "\n" not in str(error) and "log.parquet: row" in str(error)
            return
        check(frame, events, store)


def check(frame: pl.DataFrame, events: pl.DataFrame, store: SampleStore) -> None:
    """Compare the tables with the log value by value, and the batch's codes with the tables."""
    batch = BatchBuilder(store, 3).build(np.arange(N))
    for made, name in (("user_id", "user_id"), ("item_id", "item_id"), ("feature_date", "date")):
        kind = frame.schema[name]
        assert all(same(one, value, kind) for one, value in zip(events[made], frame[name], strict=True)), name
    numbers = [None if one is None or not math.isfinite(one) else np.float32(one) for one in map(number, frame["hour"])]
    assert events["feature_hour"].to_list() == numbers
    lists = [None if row is None else [one for one in row if one] for row in frame["list"].to_list()]
    assert events["feature_list"].to_list() == lists
    assert events["label_click"].to_list() == [
        None if one is None or math.isnan(one) else one for one in frame["label"]
    ]
    for codes, ids in ((store.user, events["user_id"]), (store.item, events["item_id"])):
        order = list(dict.fromkeys(ids.to_list()))
        assert codes.tolist() == [1 + order.index(one) for one in ids.to_list()]
    known = Vocabulary.load(store.folder / "context.parquet")
    keys = pl.Series([context_key("date", "" if one is None else one) for one in events["feature_date"]])
    assert batch.context.ids()[:, 1].tolist() == known.encode(keys, grow=False).tolist()
    entries = [[context_key("list", one) for one in row or []] for row in events["feature_list"].to_list()]
    for slots, row in zip(store.lists.tolist(), entries, strict=True):
        assert [code for code in slots if code] == known.encode(pl.Series(row, dtype=pl.String), grow=False).tolist()
    np.testing.assert_array_equal(batch.labels[:, 0].numpy(), events["label_click"].fill_null(math.nan).to_numpy())


def number(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]
