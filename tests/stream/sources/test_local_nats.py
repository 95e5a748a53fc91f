"""The run's own nats-server: what it acknowledged survives kill -9, and its clients find it again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from recdistill.config.stream import SourceConfig, StreamConfig
from recdistill.errors import UserError
from recdistill.stream.event_log import Journal, read_journals
from recdistill.stream.sources import local_nats as broker
from recdistill.stream.sources.base import Source
from recdistill.stream.sources.factory import open_source
from recdistill.stream.sources.local_nats import local_nats, server_url
from recdistill.stream.sources.wire import Message
from tests.support.brokers import Channel, drain, outgoing
from tests.support.programs import needs
from tests.support.tables import SCHEMA


def kill(folder: Path) -> None:
    """Kill the server of a run as a crash would."""
    os.kill(int((folder / "broker" / "server.pid").read_text()), signal.SIGKILL)


def purge(url: str, keep: int) -> None:
    """Remove what a stream holds before message `keep`."""

    async def act() -> None:
        client = await nats.connect(url)
        await client.jetstream().purge_stream("s", seq=keep)
        await client.close()

    asyncio.run(act())


def arriving(source: Source, first: int) -> Iterator[Message]:
    """Give what a source has from a position on, as it comes."""
    for _ in range(300):
        for message in source.fetch({"s": first}, 10, 1.0):
            first = message.position + 1
            yield message


@needs("nats-server")
def test_its_address_is_found_by_other_processes(tmp_path: Path) -> None:
    config = SourceConfig(kind="nats")
    assert server_url(tmp_path, config) == ""
    with local_nats(tmp_path) as url:
        assert server_url(tmp_path, config) == url
    with local_nats(tmp_path) as again:
        assert again == url  # the port of before
    assert server_url(tmp_path, SourceConfig(kind="nats", url="nats://there:1")) == "nats://there:1"
    assert server_url(tmp_path, SourceConfig(kind="table")) == ""


@needs("nats-server")
def test_a_port_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    with local_nats(tmp_path) as url:
        pass
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))), local_nats(tmp_path) as other:
        assert other != url


@needs("nats-server")
def test_what_it_acknowledged_survives_kill_9_and_publisher_and_reader_go_on(tmp_path: Path) -> None:
    channel, offsets, numbers = Channel("nats", "", tmp_path), dict[str, int](), list[int]()
    for k in range(4):
        with local_nats(tmp_path) as url:
            channel.url = url
            with channel.open() as source:
                source.create(SCHEMA)
                assert source.resume() == k * 20
                source.publish(outgoing(k * 20, 20))
                if k % 2:
                    found = drain(source, offsets, 120)
                    numbers += [position for got in found.values() for position, _ in got]
            kill(tmp_path)
    assert numbers == list(range(1, 81))


@needs("nats-server")
def test_a_publisher_whose_acknowledgement_was_lost_looks_what_is_there(tmp_path: Path) -> None:
    channel = Channel("nats", "", tmp_path)
    with local_nats(tmp_path) as url:
        channel.url = url
        with channel.open() as first, channel.open() as second:
            first.create(SCHEMA)
            first.publish(outgoing(0, 5))
            second.publish(outgoing(5, 5))
            first.publish(outgoing(5, 8))  # believes that five are there
            found = drain(first, {}, 39)
            assert first.fetch({"s": 14}, 10, 0.1) == []
    assert [position for got in found.values() for position, _ in got] == list(range(1, 14))


@needs("nats-server")
def test_a_server_killed_while_it_is_in_use_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    channel = Channel("nats", "", tmp_path)
    stop, up, turns = threading.Event(), threading.Event(), threading.Semaphore(0)

    def serve() -> None:
        while not stop.is_set():
            with local_nats(tmp_path) as url:
                channel.url = url
                up.set()
                for _ in range(3):  # and somewhere in the fourth; on a slow machine it comes as far too
                    turns.acquire()
                stop.wait(0.05)
                kill(tmp_path)

    server = threading.Thread(target=serve)
    server.start()
    try:
        assert up.wait(300)
        with channel.open() as writer, channel.open() as reader:
            writer.create(SCHEMA)
            offsets: dict[str, int] = {}
            for k in range(40):
                writer.publish(outgoing(k * 5, 5))
                found = drain(reader, offsets, 15)
                assert [position for got in found.values() for position, _ in got] == list(range(k * 5 + 1, k * 5 + 6))
                turns.release()
    finally:
        stop.set()
        turns.release(3)
        server.join()
    assert any(line["event"] == "broker back" for line in read_journals(tmp_path / "logs", 100))


@needs("nats-server")
def test_what_its_retention_removed_before_it_was_read_is_counted(tmp_path: Path) -> None:
    with local_nats(tmp_path) as url, Channel("nats", url, tmp_path).open() as source:
        source.create(SCHEMA)
        source.publish(outgoing(0, 9))
        purge(url, 6)
        found = [message for _, message in zip(range(5), arriving(source, 3), strict=False)]
    assert [(message.position, message.missing) for message in found] == [(5, 3), (6, 0), (7, 0), (8, 0), (9, 0)]


@needs("nats-server")
def test_a_stream_that_was_made_anew_is_not_waited_for(tmp_path: Path) -> None:
    with local_nats(tmp_path) as url, Channel("nats", url, tmp_path).open() as source:
        source.create(SCHEMA)
        source.publish(outgoing(0, 3))
        assert source.fetch({"s": 4}, 10, 0.1) == []
        with pytest.raises(UserError, match="stream 's' ends at 3, but 4 was read before: it was made anew"):
            source.fetch({"s": 5}, 10, 0.1)


def test_without_the_program_the_error_names_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *words, **named: None)
    with pytest.raises(UserError, match="apt-get install nats-server"), local_nats(tmp_path):
        pass


@needs("nats-server")
def test_data_that_it_cannot_use_is_reported(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "jetstream").write_text("no folder")
    with pytest.raises(UserError, match="nats-server did not start"), local_nats(tmp_path):
        pass


@needs("nats-server")
def test_a_server_with_passwords_gets_them_from_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = broker._settings
    monkeypatch.setattr(
        broker,
        "_settings",
        lambda folder, port: plain(folder, port) + 'authorization {user: "u", password: "secret"}\n',
    )
    monkeypatch.setenv("BROKER_PASSWORD", "secret")
    journal = Journal(tmp_path / "logs", "test")

    def names(options: dict[str, str]) -> list[str]:
        config = StreamConfig.model_validate({"source": {"kind": "nats", "stream": "s", "options": options}})
        with open_source(config, url, tmp_path, journal) as source:
            source.create(SCHEMA)
            return source.partitions()

    with local_nats(tmp_path) as url:
        assert names({"user": "u", "password": "env:BROKER_PASSWORD"}) == ["s"]
        for wrong in ({}, {"user": "u", "password": "guess"}):
            with pytest.raises(UserError, match=r"Authorization Violation.*; set stream\.source\.options"):
                names(wrong)
        with pytest.raises(
            UserError, match=r"stream\.source\.options\.pasword: not an option of nats; it knows user, password"
        ):
            names({"pasword": "x"})
