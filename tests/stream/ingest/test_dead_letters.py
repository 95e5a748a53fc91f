"""Dead letters of a commit: what could not be taken, small enough to keep, and none twice."""

from __future__ import annotations

import numpy as np
import polars as pl

from recdistill.stream.ingest.dead_letters import DeadLetterBuffer
from recdistill.stream.sources.wire import Message
from tests.support.tables import events, ids_of


def message(position: int, payload: bytes = b"") -> Message:
    return Message("s", position, "events", payload, published=5.0)


def test_rows_are_kept_by_message_and_reason() -> None:
    dead = DeadLetterBuffer({})
    reasons = pl.Series(["a", None, "b", "a", "a"])
    dead.some([message(7), message(8)], events(range(5)), np.array([0, 0, 0, 0, 1]), reasons)
    found = dead.frame()
    assert found.select("position", "reason", "rows").rows() == [(7, "a", 2), (7, "b", 1), (8, "a", 1)]
    assert [ids_of([pl.read_ipc_stream(payload)]) for payload in found["payload"]] == [[0, 3], [2], [4]]


def test_a_whole_message_is_kept_as_it_came() -> None:
    dead = DeadLetterBuffer({})
    dead.whole(message(3, b"poison"), "no Arrow", 5)
    assert dead.frame().select("source", "position", "rows", "payload").rows() == [("s", 3, 5, b"poison")]


def test_messages_that_a_killed_run_had_written_are_left_out() -> None:
    dead = DeadLetterBuffer({"s": 4})
    for position in (3, 4):
        dead.whole(message(position), "why", 1)
    assert dead.frame()["position"].to_list() == [4]


def test_a_payload_is_bounded_and_stays_readable() -> None:
    dead = DeadLetterBuffer({})
    rows = events(range(40)).with_columns(tags=pl.lit(["x" * 100_000]))
    dead.some([message(1)], rows, np.zeros(40, np.int64), pl.Series(["why"] * 40))
    (payload,) = dead.frame()["payload"]
    kept = pl.read_ipc_stream(payload)
    assert len(payload) <= 1 << 20 and 0 < len(kept) < 40 and dead.frame()["rows"].to_list() == [40]
