"""What ingest took since its last commit: rows in order of arrival, what cannot be read, and up to where it is."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.stream.ingest.micro_batch import MicroBatch
from recdistill.stream.sources.wire import MAX_BYTES, Message, Reader
from tests.support.arrivals import END, packed
from tests.support.tables import SCHEMA, events, ids_of


def test_a_message_that_is_too_large_is_reported_and_not_kept_whole(tmp_path: Path) -> None:
    batch = MicroBatch()
    batch.take(Message("s", 1, "events", bytes(MAX_BYTES + 1)), {"events": Reader(SCHEMA.columns())})
    batch.take(Message("s", 2, "events", packed("events", events([20]))[1]), {"events": Reader(SCHEMA.columns())})
    assert [error.reason for _, error in batch.unread] == ["a message of more than 64 MiB; send fewer rows at a time"]
    assert batch.rows == 2 and batch.offsets({}) == {"s": 3}


def test_an_end_is_found_again_by_the_next_start() -> None:
    """One partition of several has ended, and the process is killed before the others have."""
    batch = MicroBatch()
    assert not batch.take(Message("a", 6, *packed("events", events([20]))), {"events": Reader(SCHEMA.columns())})
    assert batch.take(Message("a", 7, *END), {"events": Reader(SCHEMA.columns())})
    assert batch.offsets({"b": 3}) == {"a": 7, "b": 3}


def test_what_the_broker_lost_is_counted(tmp_path: Path) -> None:
    batch = MicroBatch()
    batch.take(Message("s", 41, "events", b"", missing=40), {})
    assert (batch.dropped, batch.offsets({"s": 2})) == ({"missing": 40}, {"s": 42})


def test_rows_of_a_kind_come_in_order_of_arrival_each_with_its_message() -> None:
    batch, readers = MicroBatch(), {"events": Reader(SCHEMA.columns())}
    for position, ids in enumerate(([4, 5], [], [3])):
        batch.take(Message("s", position, "events", packed("events", events(ids))[1]), readers)
    batch.take(Message("s", 3, "events", b"poison"), readers)
    rows, origin = batch.of("events")
    assert ids_of([rows]) == [4, 5, 3] and origin.tolist() == [0, 0, 2]
    assert batch.rows == 4 and batch.published == 1.7e9 and batch.dropped == {"unreadable": 1}


def test_a_table_that_the_run_does_not_have_is_unreadable() -> None:
    batch = MicroBatch()
    batch.take(Message("s", 1, "outcomes", packed("events", events([1]))[1]), {"events": Reader(SCHEMA.columns())})
    assert [error.reason for _, error in batch.unread] == ["this run has no table of outcomes"]
    rows = pl.DataFrame({"sample_id": [1]})
    batch.take(Message("s", 2, "outcomes", rows[:0], end=True), {})  # a table's end is no row of it
    assert len(batch.unread) == 1
