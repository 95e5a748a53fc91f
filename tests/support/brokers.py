"""Channels to test with: Delta tables, a real nats-server, librdkafka's mock cluster; and rows to send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from confluent_kafka import Producer

from recdistill.config.stream import StreamConfig
from recdistill.stream.event_log import Journal
from recdistill.stream.sources.base import Source
from recdistill.stream.sources.factory import open_source
from recdistill.stream.sources.local_nats import local_nats
from recdistill.stream.sources.wire import Kind, Outgoing
from tests.support.tables import actions, events

__all__ = ["Channel", "channel", "drain", "kafka_cluster", "outgoing"]


class Channel:
    """A channel of one kind: opens readers and publishers of it."""

    def __init__(self, kind: str, url: str, folder: Path, patience: float = 120) -> None:
        self.config = StreamConfig.model_validate(
            {"source": {"kind": kind, "url": url or None, "stream": "s"}, "patience_s": patience}
        )
        self.url, self.folder = url, folder
        self.journal = Journal(folder / "logs", "test")

    @contextmanager
    def open(self) -> Iterator[Source]:
        with open_source(self.config, self.url, self.folder / "source", self.journal) as source:
            yield source


@contextmanager
def kafka_cluster(topics: tuple[str, ...] = ("s.events", "s.behaviors", "s.outcomes")) -> Iterator[str]:
    """Give the address of a mock cluster with these topics, four partitions each."""
    keeper = Producer(
        {
            "bootstrap.servers": "unused:1",
            "test.mock.num.brokers": 1,
            "log_level": 0,
            "receive.message.max.bytes": 1 << 30,
        }
    )  # the mock takes requests of up to this size
    broker = next(iter(keeper.list_topics(timeout=120).brokers.values()))
    for topic in topics:
        keeper.list_topics(topic, timeout=120)  # the mock makes a topic that a producer asks for
    yield f"{broker.host}:{broker.port}"
    del keeper  # and the cluster with it


@contextmanager
def channel(kind: str, folder: Path, patience: float = 120) -> Iterator[Channel]:
    """Give a channel with its server."""
    if kind == "nats":
        with local_nats(folder) as url:
            yield Channel(kind, url, folder, patience)
    elif kind == "kafka":
        with kafka_cluster() as url:
            yield Channel(kind, url, folder, patience)
    else:
        yield Channel(kind, "", folder, patience)


def outgoing(first: int, count: int, rows: int = 3) -> list[Outgoing]:
    """Return replay messages first, first + 1 ...: every third of behaviors; message n holds ids n * rows and on."""
    made = []
    for n in range(first, first + count):
        kind: Kind = "behaviors" if n % 3 == 1 else "events"
        ids = range(n * rows, n * rows + rows)
        made.append(Outgoing(n, kind, events(ids) if kind == "events" else actions(ids)))
    return made


def drain(
    source: Source, offsets: dict[str, int], rows: int, limit: int = 1000
) -> dict[str, list[tuple[int, pl.DataFrame]]]:
    """Fetch until `rows` rows came; return by partition (position, rows); `offsets` are moved on."""
    from recdistill.stream.sources.wire import Reader
    from tests.support.tables import SCHEMA

    readers = {"events": Reader(SCHEMA.columns()), "behaviors": Reader(dict(actions([]).schema))}
    found: dict[str, list[tuple[int, pl.DataFrame]]] = {}
    for _ in range(3000):  # five minutes
        for message in source.fetch(dict(offsets), limit, 0.1):
            assert message.position >= offsets.get(message.partition, 0)
            table, _wire = readers[message.kind].read(message)
            found.setdefault(message.partition, []).append((message.position, pl.DataFrame(table)))
            offsets[message.partition] = message.position + 1
            rows -= table.num_rows
        if rows <= 0:
            break
    assert rows == 0
    return found
