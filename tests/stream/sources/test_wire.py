"""Messages: what is sent arrives; whatever else arrives is refused with a reason, and never ends the process."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.stream.sources.wire import (
    MAX_BYTES,
    Message,
    Outgoing,
    Reader,
    Unreadable,
    encode,
    number_of,
    published_at,
)
from tests.support.tables import SCHEMA, events

READER = Reader(SCHEMA.columns())
GOOD = encode(Outgoing(7, "events", events(range(20))), published=12.5)


def message(payload: bytes | pl.DataFrame) -> Message:
    """Return a message of events."""
    return Message("p", 3, "events", payload)


def stream(table: pa.Table, **options: object) -> bytes:
    """Return an Arrow stream as another producer would write it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_what_is_sent_arrives() -> None:
    table, wire = READER.read(message(GOOD))
    assert pl.DataFrame(table).equals(events(range(20)))
    assert (wire.published, wire.number, wire.end, number_of(GOOD)) == (12.5, 7, False, 7)


def test_an_end_needs_no_columns() -> None:
    table, wire = READER.read(message(encode(Outgoing(8, "events", pl.DataFrame({"x": [1]}).clear(), end=True))))
    assert wire.end and table.num_rows == 0


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"compression": "lz4"}])
def test_other_producers_may_order_columns_and_write_strings_as_they_like(options: dict[str, object]) -> None:
    rows = events(range(5)).select(
        "label_click", "feature_tags", "feature_device", "item_id", "user_id", "time", "sample_id"
    )
    for level in (pl.CompatLevel.oldest(), pl.CompatLevel.newest()):
        for _ in range(2):  # the second is read on the fast path
            table, wire = READER.read(message(stream(rows.to_arrow(compat_level=level), **options)))
            assert pl.DataFrame(table).equals(events(range(5))) and wire.number == -1
    narrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    narrow = narrow.set_column(1, "feature_tags", narrow["feature_tags"].cast(pa.list_(pa.string())))
    assert pl.DataFrame(READER.read(message(stream(narrow)))[0]).equals(events(range(5)))


@pytest.mark.parametrize(
    ("reason", "rows"),
    [
        ("column 'feature_device' is missing", events([1, 2]).drop("feature_device")),
        (
            "column 'feature_devise' is not in the table's schema; did you mean 'feature_device'?",
            events([1, 2]).rename({"feature_device": "feature_devise"}),
        ),
        (
            "column 'sample_id' has type int32, the table has int64",
            events([1, 2]).with_columns(pl.col("sample_id").cast(pl.Int32)),
        ),
        (
            "column 'time' has type timestamp[ms, tz=UTC], the table has timestamp[us, tz=UTC]",
            events([1, 2]).with_columns(pl.col("time").dt.cast_time_unit("ms")),
        ),
    ],
)
def test_other_columns_are_refused_by_name(reason: str, rows: pl.DataFrame) -> None:
    for payload in (encode(Outgoing(0, "events", rows)), rows):
        with pytest.raises(Unreadable) as caught:
            READER.read(message(payload))
        assert (caught.value.reason.startswith(reason) or payload is rows) and caught.value.rows == 2


def test_odd_types_are_refused() -> None:
    for column in (
        pa.array([None], pa.null()),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.array([{"a": 1}]),
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
    ):
        with pytest.raises(Unreadable):
            READER.read(message(stream(pa.table({"sample_id": column}))))
    twice = pa.table([pa.array([1]), pa.array([2])], names=["sample_id", "sample_id"])
    with pytest.raises(Unreadable, match="column 'sample_id' stands twice"):
        READER.read(message(stream(twice)))


def test_large_messages_are_refused_packed_or_not() -> None:
    with pytest.raises(Unreadable, match="more than 64 MiB"):
        READER.read(message(bytes(MAX_BYTES + 1)))
    bomb = stream(pa.table({"sample_id": pa.nulls(MAX_BYTES // 8 + 1, pa.int64()).fill_null(0)}), compression="zstd")
    assert len(bomb) < MAX_BYTES // 100
    with pytest.raises(Unreadable, match="its rows take more than 64 MiB"):
        READER.read(message(bomb))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_damaged_messages_are_refused_or_read_whole(data: st.DataObject) -> None:
    payload = bytearray(GOOD)
    if data.draw(st.booleans()):
        del payload[data.draw(st.integers(0, len(payload) - 1)) :]
    for _ in range(data.draw(st.integers(0, 4))):
        if payload:
            payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    _read_or_refused(bytes(payload))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(payload: bytes) -> None:
    _read_or_refused(payload)
    _read_or_refused(GOOD[:64] + payload)


def _read_or_refused(payload: bytes) -> None:
    try:
        table, _ = READER.read(message(payload))
    except Unreadable as error:
        assert "\n" not in error.reason
    else:
        assert pl.DataFrame(table).schema == pl.Schema(SCHEMA.columns())
        pl.DataFrame(table)["feature_tags"].explode().str.len_chars().sum()  # every text is one
    number_of(payload)


@pytest.mark.parametrize("said", [b"nan", b"inf", b"-inf", b"-5", b"1e300", b"soon", b"", b"\xff", "nan", "9" * 400])
def test_a_time_of_publishing_that_can_be_none_counts_as_unknown(said: bytes | str) -> None:
    assert published_at(said) == 0.0 and published_at(b"1700000000.5") == 1_700_000_000.5
