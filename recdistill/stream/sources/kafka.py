"""Kafka topics as a source: STREAM.events, STREAM.behaviors, STREAM.outcomes, each in partitions; a position is an
offset.

Partitions are assigned, not subscribed, at the reader's own offsets: the broker keeps nothing of what was read. Several
readers may split the partitions between them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from recdistill.errors import UserError
from recdistill.stream.sources.base import MAX_BYTES, Patience
from recdistill.stream.sources.wire import KINDS, Message, Outgoing, encode, number_of
from recdistill.tables.schema import EventSchema

__all__ = ["KafkaSource"]

ANSWER = 3.0  # seconds that an answer may take
MAX_MESSAGE = 1 << 30  # bytes: a message that is too large for us must arrive, to be reported and skipped
RENEWED = 60.0  # seconds after which a reader asks anew how many partitions there are
QUIET = 2.0  # seconds without a message after which the broker is asked whether it is there


@dataclass
class _Reading:
    """Where the consumer stands; answered: monotonic seconds at which the broker last gave something."""

    offsets: dict[str, int] = field(default_factory=dict)  # partition -> what comes next
    answered: float = 0.0


class KafkaSource:
    """Topics of `stream` at `url`. share (k, n): of n readers, number k, from 0; it reads every n-th partition.

    options: librdkafka's (TLS, passwords); UserError for one that it does not know.
    """

    def __init__(
        self,
        url: str,
        stream: str,
        patience: Patience,
        share: tuple[int, int] = (0, 1),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.url, self.stream, self.patience, self.share = url, stream, patience, share
        self.topics = {f"{stream}.{kind}": kind for kind in KINDS}
        own = {"bootstrap.servers": url, "log_level": 0, "reconnect.backoff.max.ms": 1000}
        self._common: dict[str, Any] = {**(options or {}), **own}
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None
        self._reading = _Reading()
        self._last: dict[tuple[str, int], int] | None = None  # last number of the replay, by topic and partition
        self._sizes: dict[str, int] | None = None
        self._asked = time.monotonic()

    def partitions(self) -> list[str]:
        """Return TOPIC/NUMBER of this reader's share, with those added lately; UserError when there are too few for all
        readers.
        """
        self._renew()
        mine = sorted(
            f"{topic}/{k}"
            for topic, size in self._known().items()
            for k in range(size)
            if k % self.share[1] == self.share[0]
        )
        if not mine:
            raise UserError(
                f"{self.url}: the topics have {max(self._known().values())} partitions, too few for "
                f"{self.share[1]} readers; lower stream.source.readers"
            )
        return mine

    def _known(self) -> dict[str, int]:
        """Return the number of partitions of every topic; UserError when one is missing."""
        if self._sizes is None:
            found = self._metadata()
            for topic in self.topics:
                if topic not in found:
                    raise UserError(
                        f"{self.url}: there is no topic '{topic}'; make it, publish into it first, or set "
                        "stream.source.stream"
                    )
            self._sizes = {topic: found[topic] for topic in self.topics}
        return self._sizes

    def _renew(self) -> None:
        """Ask anew, now and then; partitions are never taken away, and a broker that begins may not know them all."""
        if self._sizes is not None and time.monotonic() - self._asked >= RENEWED:
            found, self._asked = self._metadata(), time.monotonic()
            self._sizes = {topic: max(size, found.get(topic, 0)) for topic, size in self._sizes.items()}

    def _metadata(self) -> dict[str, int]:
        while True:
            try:
                found = self._reader().list_topics(timeout=ANSWER).topics
            except KafkaException as error:
                self._failed(error.args[0])
                continue
            self.patience.worked()
            return {name: len(topic.partitions) for name, topic in found.items()}

    def _reader(self) -> Consumer:
        if self._consumer is None:
            settings = {
                **self._common,
                "group.id": self.stream,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "receive.message.max.bytes": MAX_MESSAGE + 512,
                "fetch.max.bytes": MAX_BYTES,
                "message.max.bytes": MAX_BYTES,
                "queued.max.messages.kbytes": MAX_BYTES >> 10,
            }
            try:
                self._consumer = Consumer(settings)
            except KafkaException as error:
                raise UserError(f"stream.source.options: {error.args[0].str()}") from None
        return self._consumer

    def fetch(self, offsets: dict[str, int], limit: int, seconds: float) -> list[Message]:
        """See Source.fetch."""
        wanted = {name: offsets.get(name, 0) for name in self.partitions()}
        if wanted != self._reading.offsets:
            self._reader().assign([TopicPartition(*_place(name), at) for name, at in wanted.items()])
            self._reading = _Reading(wanted, time.monotonic())
        found: list[Message] = []
        size = 0
        wait = seconds
        while len(found) < limit and size < MAX_BYTES and (got := self._reader().poll(wait)) is not None:
            error = got.error()
            found += self._missing(got) if error else [self._message(got)]
            size += 0 if error else len(found[-1].payload)
            wait = 0.005
        if found:
            self._reading.answered = time.monotonic()
            self.patience.worked()
        elif self.patience.lost or time.monotonic() - self._reading.answered > QUIET:
            self._metadata()  # waits for a broker that is down
            self._reading.answered = time.monotonic()
        return found

    def _message(self, got: Any) -> Message:
        name = f"{got.topic()}/{got.partition()}"
        self._reading.offsets[name] = got.offset() + 1
        return Message(name, got.offset(), self.topics[got.topic()], got.value() or b"")

    def _missing(self, got: Any) -> list[Message]:
        """Return the messages that by this error the broker no longer has; other errors are tried again or raised."""
        if got.error().code() != KafkaError._AUTO_OFFSET_RESET:
            self._failed(got.error())
            return []
        name = f"{got.topic()}/{got.partition()}"
        low, high = self._reader().get_watermark_offsets(TopicPartition(got.topic(), got.partition()), timeout=ANSWER)
        at = self._reading.offsets[name]
        if at > high:
            raise UserError(
                f"{self.url}: {name} ends at offset {high}, but {at} was read before: the topic was made anew; "
                "choose another --out or stream.source.stream"
            )
        self._reading = _Reading()  # assigned anew with the next fetch
        kind = self.topics[got.topic()]
        return [Message(name, low - 1, kind, b"", missing=low - at)] if low > at else []

    def create(self, schema: EventSchema) -> None:
        """Make the topics, a partition for each reader, or leave those there; see Source.create."""
        found = self._metadata()
        missing = [NewTopic(topic, num_partitions=self.share[1]) for topic in self.topics if topic not in found]
        if not missing:
            return
        for topic, made in AdminClient(self._common).create_topics(missing, request_timeout=ANSWER).items():
            try:
                made.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise UserError(
                        f"{self.url}: topic '{topic}' cannot be made: {error.args[0].str()}; make it yourself"
                    ) from None
        until = time.monotonic() + ANSWER
        while any(topic not in self._metadata() for topic in self.topics) and time.monotonic() < until:
            time.sleep(0.05)

    def resume(self) -> int:
        """See Source.resume."""
        self._last = {place: self._number(*place) for place in self._places()}
        return 1 + min(self._last.values(), default=-1) if all(last >= 0 for last in self._last.values()) else 0

    def _places(self) -> list[tuple[str, int]]:
        return [(topic, k) for topic, size in sorted(self._known().items()) for k in range(size)]

    def _number(self, topic: str, partition: int) -> int:
        """Return the last number of a replay in a partition, -1 if none."""
        low, high = self._reader().get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER)
        if high <= low:
            return -1
        self._reader().assign([TopicPartition(topic, partition, high - 1)])
        self._reading = _Reading()
        got = self._reader().poll(ANSWER)
        return number_of(got.value() or b"") if got is not None and not got.error() else -1

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """See Source.publish. Message n goes to partition n modulo their number; an end goes to every one."""
        if self._last is None:
            self.resume()
        last = self._last or {}
        producer = self._writer()
        failed: list[str] = []

        def delivered(error: KafkaError | None, _: object) -> None:
            failed.extend([error.str()] if error else [])

        for message in messages:
            for place in self._targets(message):
                if message.number > last[place]:
                    producer.produce(place[0], encode(message), partition=place[1], on_delivery=delivered)
                    last[place] = message.number
        while producer.flush(ANSWER) and not failed:
            self.patience.failed("messages are not acknowledged")
        if failed:
            raise UserError(
                f"{self.url}: cannot publish: {failed[0]}; lower stream.source.message_rows if messages are too large"
            )
        self.patience.worked()

    def _targets(self, message: Outgoing) -> list[tuple[str, int]]:
        if message.end:
            return self._places()
        topic = f"{self.stream}.{message.kind}"
        return [(topic, message.number % self._known()[topic])]

    def _writer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {**self._common, "enable.idempotence": True, "linger.ms": 2, "message.timeout.ms": 0}
            )
        return self._producer

    def _failed(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in (KafkaError._AUTHENTICATION, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            raise UserError(f"{self.url}: {error.str()}")
        self.patience.failed(error.str())

    def close(self) -> None:
        """Close the connections."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._producer = None


def _place(name: str) -> tuple[str, int]:
    topic, _, partition = name.rpartition("/")
    return topic, int(partition)
