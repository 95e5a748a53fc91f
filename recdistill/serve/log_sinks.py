"""Where a request log goes: to what the stream reads (stream.source), NATS JetStream, Kafka, or a folder of tables.

    nats://HOST:4222/STREAM    subjects STREAM.events, STREAM.outcomes; STREAM-served for whoever listens now
    kafka://HOST:9092/STREAM   topics STREAM.events, STREAM.outcomes, STREAM-served
    FOLDER                     Delta tables events, outcomes, served in it

A sink either has all rows it was given, or raises OSError, and is asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa

from recdistill.defaults import PUBLISHED
from recdistill.errors import UserError
from recdistill.serve.impressions import OUTCOMES, packed, wired

__all__ = ["FolderSink", "KafkaSink", "NatsSink", "Sink", "open_sink"]

ANSWER = 5.0  # seconds that a broker may take
STREAM = "recdistill"  # unless the address names another


class Sink(Protocol):
    """Takes rows of events, outcomes and served."""

    def send(self, rows: Mapping[str, pa.Table]) -> None:
        """Hand rows over, by kind; OSError where that did not succeed, or nobody knows."""

    def close(self) -> None:
        """Free connections."""


def open_sink(where: str, events: pa.Schema) -> Sink:
    """Return the sink at an address or folder; events: of its rows. UserError where its library is missing, or for what
    is no address.
    """
    parts = urlsplit(where)
    if parts.scheme not in ("nats", "kafka"):
        if "://" in where:
            raise UserError(f"--log {parts.scheme}://: nats://HOST:4222/STREAM, kafka://HOST:9092/STREAM or a folder")
        return FolderSink(Path(where), events)
    stream = parts.path.strip("/") or STREAM
    try:
        return NatsSink(f"nats://{parts.netloc}", stream) if parts.scheme == "nats" else KafkaSink(parts.netloc, stream)
    except ModuleNotFoundError:
        raise UserError(
            f"--log {parts.scheme}://: its library is not installed; run: pip install 'recdistill[{parts.scheme}]'"
        ) from None


class NatsSink:
    """A JetStream stream; a message that is sent again within the server's window for duplicates counts once."""

    def __init__(self, url: str, stream: str) -> None:
        import nats

        self.url, self.stream, self._connect = url, stream, nats.connect
        self._loop = asyncio.new_event_loop()
        self._client: Any = None

    def send(self, rows: Mapping[str, pa.Table]) -> None:
        """See Sink.send."""
        from nats import errors

        try:
            self._run(self._send(rows))
        except (errors.Error, OSError, TimeoutError) as error:
            self._drop()
            raise OSError(f"{self.url}: {error or type(error).__name__}") from None

    async def _send(self, rows: Mapping[str, pa.Table]) -> None:
        if self._client is None:
            self._client = await self._connect(self.url, allow_reconnect=False, connect_timeout=2, error_cb=_quiet)
        stream = self._client.jetstream(timeout=ANSWER)
        for kind, table in rows.items():
            if kind == "served":
                await self._client.publish(f"{self.stream}-served", wired(table))
            else:
                await stream.publish(f"{self.stream}.{kind}", wired(table), headers={"Nats-Msg-Id": _name(kind, table)})

    def _run(self, act: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(asyncio.wait_for(act, 2 * ANSWER))

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                self._run(client.close())
            except (OSError, TimeoutError):
                return  # it was lost before

    def close(self) -> None:
        """Close the connection."""
        if not self._loop.is_closed():
            self._drop()
            self._loop.close()


async def _quiet(error: Exception) -> None:
    """Print nothing: every error is raised where it matters."""


def _name(kind: str, table: pa.Table) -> str:
    """Return a message's own name: the same rows sent again have the same, others, as a second outcome of a sample, do
    not.
    """
    return f"{kind}-{hashlib.blake2b(packed(table), digest_size=16).hexdigest()}"


class KafkaSink:
    """Topics of `stream`; the producer is idempotent."""

    def __init__(self, servers: str, stream: str) -> None:
        from confluent_kafka import Producer

        self.servers, self.stream = servers, stream
        self._producer = Producer(
            {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 2, "log_level": 0}
            | {"message.timeout.ms": int(2000 * ANSWER)}
        )

    def send(self, rows: Mapping[str, pa.Table]) -> None:
        """See Sink.send."""
        failed: list[str] = []

        def delivered(error: Any, message: Any) -> None:
            if error and not message.topic().endswith("-served"):  # which may be a topic that nobody made
                failed.append(error.str())

        for kind, table in rows.items():
            topic = f"{self.stream}-served" if kind == "served" else f"{self.stream}.{kind}"
            self._producer.produce(topic, wired(table), on_delivery=delivered)
        left = self._producer.flush(3 * ANSWER)
        if failed or left:
            raise OSError(f"{self.servers}: {failed[0] if failed else 'messages are not acknowledged'}")

    def close(self) -> None:
        """Send what is left."""
        self._producer.flush(ANSWER)


def _check_columns(table: Path, there: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Raise UserError for the first column of which a table and the rows to come differ; by name: its type."""
    for name in [*wanted, *there]:
        if there.get(name) != wanted.get(name):
            what = "lacks" if name not in there else "has" if name not in wanted else "has another type of"
            raise UserError(
                f"{table}: it {what} column '{name}', unlike the log of this model; name a new folder as --log"
            )


class FolderSink:
    """Delta tables in a folder, made where they are missing. UserError for a folder that cannot be written, or whose
    tables have other columns.
    """

    def __init__(self, folder: Path, events: pa.Schema) -> None:
        try:
            from deltalake import DeltaTable, Schema
            from deltalake.exceptions import DeltaError
        except ModuleNotFoundError:
            raise UserError(f"--log {folder}: tables need deltalake; run: pip install deltalake") from None

        self.folder = folder
        try:
            for name, schema in (("events", events), ("outcomes", OUTCOMES)):
                (folder / name).mkdir(parents=True, exist_ok=True)
                DeltaTable.create(str(folder / name), schema, mode="ignore")
                there, wanted = DeltaTable(str(folder / name)).schema(), Schema.from_arrow(schema)
                _check_columns(folder / name, *({one.name: one.type for one in of.fields} for of in (there, wanted)))
        except (DeltaError, OSError) as error:
            raise UserError(f"{folder}: the request log cannot be written there: {error}") from None

    def send(self, rows: Mapping[str, pa.Table]) -> None:
        """See Sink.send."""
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import DeltaError

        try:
            for kind, table in rows.items():
                about = CommitProperties(custom_metadata={PUBLISHED: repr(time.time())})
                write_deltalake(str(self.folder / kind), table, mode="append", commit_properties=about)
        except DeltaError as error:
            raise OSError(f"{self.folder}: {error}") from None

    def close(self) -> None:
        """Nothing to free."""
