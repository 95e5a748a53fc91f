"""What every source promises. A new one is tested by being listed in KINDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from recdistill.config.stream import SourceConfig
from recdistill.errors import UserError
from recdistill.stream.event_log import read_journals
from recdistill.stream.sources.wire import Outgoing, Reader
from tests.support.brokers import Channel, channel, drain, kafka_cluster, outgoing
from tests.support.programs import needs
from tests.support.tables import SCHEMA, events

KINDS = ("table", "nats", "kafka")
BROKERS = ("nats", "kafka")
SERVED = ("table", pytest.param("nats", marks=needs("nats-server")), "kafka")  # the kinds, each with its server


@pytest.fixture(params=SERVED)
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Channel]:
    with channel(request.param, tmp_path) as made:
        with made.open() as source:
            source.create(SCHEMA)
        yield made


def ids(found: dict[str, list[tuple[int, pl.DataFrame]]]) -> dict[str, list[int]]:
    """Return, by partition, the numbers that its rows were sent as."""
    named = {
        name: [rows["sample_id" if "sample_id" in rows.columns else "user_id"] for _, rows in got]
        for name, got in found.items()
    }
    return {name: [k for numbers in got for k in numbers] for name, got in named.items()}


def test_every_source_is_listed() -> None:
    assert set(KINDS) == set(get_args(SourceConfig.model_fields["kind"].annotation))


def test_everything_arrives_in_order_per_partition(there: Channel) -> None:
    with there.open() as source:
        source.publish(outgoing(0, 20))
        source.publish(outgoing(20, 20))
        found = ids(drain(source, {}, 120))
        assert set(found) <= set(source.partitions())
    assert sorted(k for got in found.values() for k in got) == list(range(120))
    if there.config.source.kind != "nats":
        assert all(got == sorted(got) for got in found.values())
    else:
        assert list(found.values()) == [list(range(120))]  # one total order


def test_a_reader_resumes_from_any_offset_as_often_as_it_likes(there: Channel) -> None:
    with there.open() as source:
        for n in range(6):
            source.publish(outgoing(2 * n, 2))
        whole = drain(source, {}, 36)
        for name, got in whole.items():
            for at in range(len(got)):
                offsets = {other: rows[-1][0] + 1 for other, rows in whole.items()} | {name: got[at][0]}
                again = drain(source, offsets, sum(len(rows) for _, rows in got[at:]))
                assert ids(again) == ids({name: got[at:]})


def test_a_reader_made_anew_loses_nothing_and_repeats_nothing(there: Channel) -> None:
    with there.open() as source:
        source.publish(outgoing(0, 30))
    offsets: dict[str, int] = {}
    taken: list[int] = []
    for _ in range(300):
        with there.open() as source:
            for message in source.fetch(offsets, 4, 1.0):
                offsets[message.partition] = message.position + 1
                taken.append(message.position)
        if there.config.source.kind == "table" and len(taken) == 2 or len(taken) == 30:
            break
    with there.open() as source:
        assert source.fetch(offsets, 100, 0.2) == []
    assert len(taken) == (2 if there.config.source.kind == "table" else 30)


def test_a_publisher_made_anew_goes_on_where_it_was(there: Channel) -> None:
    with there.open() as source:
        assert source.resume() == 0
        source.publish(outgoing(0, 10))
    with there.open() as source:
        assert source.resume() in range(11)
        source.publish(outgoing(0, 10))  # all there: left out
        source.publish(outgoing(5, 15))  # the first five are there
    with there.open() as source:
        found = ids(drain(source, {}, 60))
    assert sorted(k for got in found.values() for k in got) == list(range(60))


def test_an_end_arrives_on_every_partition_after_all_else(there: Channel) -> None:
    reader = Reader(SCHEMA.columns())
    with there.open() as source:
        source.publish([*outgoing(0, 7), Outgoing(7, "events", events([]), end=True)])
        offsets: dict[str, int] = {}
        ended: list[str] = []
        for _ in range(3000):
            for message in source.fetch(offsets, 100, 0.1):
                assert message.partition not in ended
                offsets[message.partition] = message.position + 1
                if message.end or (
                    isinstance(message.payload, bytes) and message.kind == "events" and reader.read(message)[1].end
                ):
                    ended.append(message.partition)
            if len(ended) == (4 if there.config.source.kind == "kafka" else len(source.partitions())):
                break
        assert sorted(ended) == [
            name for name in sorted(source.partitions()) if there.config.source.kind != "kafka" or "events" in name
        ]


@pytest.mark.parametrize("kind", SERVED)
def test_a_missing_channel_is_named(kind: str, tmp_path: Path) -> None:
    problem = {
        "table": "source/events: no table there",
        "nats": "there is no stream 's'",
        "kafka": "there is no topic 's.events'",
    }
    if kind == "kafka":
        with (
            kafka_cluster(("other",)) as url,
            Channel(kind, url, tmp_path).open() as source,
            pytest.raises(UserError, match=problem[kind]),
        ):
            source.fetch({}, 1, 0.1)
    else:
        with channel(kind, tmp_path) as made, made.open() as source, pytest.raises(UserError, match=problem[kind]):
            source.fetch({}, 1, 0.1)


@pytest.mark.parametrize("kind", BROKERS)
def test_a_broker_that_is_down_is_waited_for_and_then_named(kind: str, tmp_path: Path) -> None:
    url = {"nats": "nats://127.0.0.1:9", "kafka": "127.0.0.1:9"}[kind]
    with (
        Channel(kind, url, tmp_path, patience=0.5).open() as source,
        pytest.raises(UserError, match=f"{url}: the broker does not answer"),
    ):
        source.partitions()
    assert [line["event"] for line in read_journals(tmp_path / "logs", 9)] == ["waiting for the broker"]


@pytest.mark.parametrize("kind", SERVED[1:])
def test_a_broker_that_goes_down_later_is_waited_for_and_then_named(kind: str, tmp_path: Path) -> None:
    with channel(kind, tmp_path) as made:
        with made.open() as source:
            source.create(SCHEMA)
            source.publish(outgoing(0, 3))
        opened = made.open()
        source = opened.__enter__()
        drain(source, {}, 9)
        source.patience.seconds = 0.5  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="the broker does not answer"):
        for _ in range(100):
            source.fetch({}, 100, 0.05)
    opened.__exit__(None, None, None)
    assert [line["event"] for line in read_journals(tmp_path / "logs", 99)].count("waiting for the broker") == 1


@pytest.mark.parametrize("kind", BROKERS)
def test_a_broker_needs_an_address(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"stream.source.url is not set; {kind}"), Channel(kind, "", tmp_path).open():
        pass
