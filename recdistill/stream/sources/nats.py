"""A NATS JetStream stream as a source: all kinds in one total order, a position is a sequence number of the stream.

A replay states the sequence number that each message must follow. So there are no holes and no message twice, whatever
was in flight when a server or a publisher was killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import count
from typing import Any, TypeVar

import nats
from nats import errors
from nats.aio.client import Client
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import BadRequestError, NotFoundError

from recdistill.errors import UserError
from recdistill.stream.sources.base import MAX_BYTES, Patience
from recdistill.stream.sources.wire import KINDS, Kind, Message, Outgoing, encode, number_of
from recdistill.tables.schema import EventSchema

__all__ = ["NatsSource"]

T = TypeVar("T")
LOST = (errors.Error, OSError, TimeoutError)
ANSWER = 5.0  # seconds that an answer may take
IDLE = 600.0  # seconds after which the server forgets a reader that asks nothing
OPTIONS = ("user", "password", "token", "user_credentials", "nkeys_seed", "tls_hostname")
LOOK_BACK = 1000  # messages of others after the last one of a replay


class NatsSource:
    """Stream `stream` with subjects STREAM.events, STREAM.behaviors and STREAM.outcomes at `url`.

    options: the client's credentials (OPTIONS); UserError for another.
    """

    def __init__(self, url: str, stream: str, patience: Patience, options: Mapping[str, Any] | None = None) -> None:
        self.url, self.stream, self.patience, self.options = url, stream, patience, dict(options or {})
        for name in self.options:
            if name not in OPTIONS:
                raise UserError(f"stream.source.options.{name}: not an option of nats; it knows {', '.join(OPTIONS)}")
        self._kinds: dict[str, Kind] = {f"{stream}.{kind}": kind for kind in KINDS}
        self._loop = asyncio.new_event_loop()
        self._client: Client | None = None
        self._gone = asyncio.Event()
        self._reader: JetStreamContext.PullSubscription | None = None
        self._next = 0  # the position that the reader gives next
        self._last: tuple[int, int] | None = None  # sequence of the stream's last message, last number of the replay

    def partitions(self) -> list[str]:
        """Return the stream's name, its only partition."""
        self._patiently(self._checked)
        return [self.stream]

    def fetch(self, offsets: dict[str, int], limit: int, seconds: float) -> list[Message]:
        """See Source.fetch."""
        first = max(offsets.get(self.stream, 0), 1)
        return self._patiently(lambda: self._fetched(first, limit, seconds))

    async def _fetched(self, first: int, limit: int, seconds: float) -> list[Message]:
        if self._reader is None or self._next != first:
            newest = await self._checked()
            if first > newest + 1:
                raise UserError(
                    f"{self.url}: stream '{self.stream}' ends at {newest}, but {first - 1} was read before: it was "
                    "made anew; choose another --out or stream.source.stream"
                )
            config = api.ConsumerConfig(
                deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=first,
                ack_policy=api.AckPolicy.NONE,
                inactive_threshold=IDLE,
            )
            self._reader = await (await self._stream()).pull_subscribe(
                f"{self.stream}.*", stream=self.stream, config=config
            )
            self._next = first
        found: list[Message] = []
        size = 0
        while len(found) < limit and size < MAX_BYTES:
            try:  # the first ones are worth a wait; and large ones come one by one, so that memory holds few
                batch = await self._reader.fetch(
                    min(limit - len(found), 64), max(seconds, 0.002) if not found else 0.002
                )
            except (TimeoutError, errors.TimeoutError):
                if not found and not (await self._connected()).is_connected:
                    raise
                break
            found += self._messages(batch)
            size += sum(len(message.data) for message in batch)
        return found

    def _messages(self, batch: list[Any]) -> list[Message]:
        found = []
        for message in batch:
            at = int(message.metadata.sequence.stream)
            if at > self._next:
                found.append(Message(self.stream, at - 1, "events", b"", missing=at - self._next))
            kind = self._kinds.get(message.subject, "events")  # what comes on another subject is refused as no event
            found.append(Message(self.stream, at, kind, message.data))
            self._next = at + 1
        return found

    def create(self, schema: EventSchema) -> None:
        """Make the stream, or leave one that takes all subjects; see Source.create."""
        self._patiently(self._created)

    async def _created(self) -> None:
        stream = await self._stream()
        try:
            await stream.stream_info(self.stream)
        except NotFoundError:
            await stream.add_stream(
                api.StreamConfig(name=self.stream, subjects=[f"{self.stream}.{kind}" for kind in KINDS])
            )
        await self._checked()

    async def _checked(self) -> int:
        """Return the stream's newest position; UserError when there is no such stream."""
        wanted = [f"{self.stream}.{kind}" for kind in KINDS]
        try:
            info = await (await self._stream()).stream_info(self.stream)
        except NotFoundError:
            raise UserError(
                f"{self.url}: there is no stream '{self.stream}'; make it with the subjects {', '.join(wanted)}, "
                "publish into it first, or set stream.source.stream"
            ) from None
        subjects = info.config.subjects or []
        lacks = [one for one in wanted if not {one, f"{self.stream}.*", f"{self.stream}.>"} & set(subjects)]
        if lacks:
            raise UserError(
                f"{self.url}: stream '{self.stream}' does not take the subject {lacks[0]}; add it, or set "
                "stream.source.stream"
            )
        return info.state.last_seq

    def resume(self) -> int:
        """See Source.resume."""
        self._last = self._patiently(self._tail)
        return self._last[1] + 1

    async def _tail(self) -> tuple[int, int]:
        stream = await self._stream()
        state = (await stream.stream_info(self.stream)).state
        for at in range(state.last_seq, max(state.first_seq, state.last_seq - LOOK_BACK, 1) - 1, -1):
            number = number_of((await stream.get_msg(self.stream, at)).data or b"")
            if number >= 0:
                return state.last_seq, number
        return state.last_seq, -1

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """See Source.publish."""
        payloads = {message.number: (f"{self.stream}.{message.kind}", encode(message)) for message in messages}
        self._patiently(lambda: self._published(payloads))

    async def _published(self, payloads: dict[int, tuple[str, bytes]]) -> None:
        stream = await self._stream()
        sequence, number = self._last or await self._tail()
        self._last = None  # until all are known to be there
        left = {key: payloads[key] for key in sorted(payloads) if key > number}
        sent = [
            stream.publish(subject, payload, ANSWER, headers={"Nats-Expected-Last-Sequence": str(after)})
            for after, (subject, payload) in zip(count(sequence), left.values(), strict=False)
        ]
        failed = [
            answer
            for answer in await asyncio.gather(*sent, return_exceptions=True)
            if isinstance(answer, BaseException)
        ]
        if failed:
            raise failed[0]
        self._last = sequence + len(left), max([number, *left])

    def _patiently(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `act` returns, once the broker is there."""
        while True:
            try:
                result = self._loop.run_until_complete(self._unless_lost(act))
            except errors.MaxPayloadError:
                raise UserError(
                    f"{self.url}: a message exceeds the server's max_payload; lower stream.source.message_rows"
                ) from None
            except LOST as error:
                if "authorization" in str(error).lower():
                    raise UserError(
                        f"{self.url}: {error}; set stream.source.options: user and password, or token"
                    ) from None
                if not isinstance(error, BadRequestError):  # a number that was not next: look again at what is there
                    self._forget()
                self.patience.failed(str(error) or type(error).__name__)
                continue
            self.patience.worked()
            return result

    async def _unless_lost(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `act` returns, but wait no longer once the connection is lost: the library would."""
        acting, lost = asyncio.create_task(act()), asyncio.create_task(self._gone.wait())
        done, waiting = await asyncio.wait({acting, lost}, timeout=3 * ANSWER, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if acting not in done:
            raise errors.ConnectionClosedError
        return acting.result()

    async def _stream(self) -> JetStreamContext:
        return (await self._connected()).jetstream(timeout=ANSWER)

    async def _connected(self) -> Client:
        if self._client is None or not self._client.is_connected:
            self._reader = None
            self._client = await nats.connect(
                self.url,
                allow_reconnect=False,
                connect_timeout=2,
                error_cb=_quiet,
                ping_interval=5,
                max_outstanding_pings=2,
                closed_cb=self._closed,
                max_reconnect_attempts=1,
                reconnect_time_wait=0.1,
                **self.options,
            )
        return self._client

    async def _closed(self) -> None:
        self._gone.set()

    def _forget(self) -> None:
        client, self._client, self._reader = self._client, None, None
        if client is not None:
            self._wait(client.close())
        self._gone.clear()

    def _wait(self, closing: Coroutine[Any, Any, None]) -> None:
        try:
            self._loop.run_until_complete(asyncio.wait_for(closing, ANSWER))
        except LOST:
            return  # it was lost before

    def close(self) -> None:
        """Close the connection."""
        if not self._loop.is_closed():
            self._forget()
            self._loop.close()


async def _quiet(error: Exception) -> None:
    """Print nothing: every error is raised where it matters."""
