"""Requests sent at the times they are due, whether earlier ones are answered or not, and how long each took.

A latency counts from the time a request was due: where the server is slow, or this sender late, that shows, and is not
left out (no coordinated omission). What the sender itself was late is kept apart.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recdistill.serve.client import Address
from recdistill.typing import Array

__all__ = ["Measured", "arrivals", "closed_loop", "measured", "open_loop"]

CONNECTIONS = 512  # at a time; requests that find none free wait for one, and that counts
READY = 32  # connections made before the first request
PATIENCE = 10.0  # seconds for the last answers
LOST, LATE = "connection lost", "no answer"


@dataclass(frozen=True)
class Measured:
    """Of n requests in the order in which they were due: latency float64 [n] in seconds, NaN where it failed; lag
    float64 [n], how late it was sent; failures by kind: a status, a lost connection, no answer. seconds: from the first
    request to the last answer.
    """

    latency: Array
    lag: Array
    failures: dict[str, int]
    seconds: float


class _Connection(asyncio.Protocol):
    """One connection, one request at a time; job: its number, -1 for none."""

    def __init__(self, sender: _Sender) -> None:
        self.sender, self.job, self.buffer = sender, -1, bytearray()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, job: int) -> None:
        """Send request number `job`."""
        self.job = job
        self.buffer.clear()
        self.sender.began(job)
        self.transport.write(self.sender.payloads[job % len(self.sender.payloads)])

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.job >= 0 and _whole(self.buffer):
            job, self.job = self.job, -1
            self.sender.ended(self, job, int(self.buffer[9:12]))

    def connection_lost(self, _: Exception | None) -> None:
        self.sender.lost(self)


def _whole(buffer: bytearray) -> bool:
    """Return whether an answer is whole, of a known length or in chunks."""
    head, end, body = bytes(buffer).partition(b"\r\n\r\n")
    if not end:
        return False
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


class _Sender:
    """Keeps the connections and notes when each request was sent and answered. done: called with each one's number."""

    def __init__(self, address: Address, payloads: Sequence[bytes], done: Callable[[int], None]) -> None:
        self.address, self.payloads, self.done = address, payloads, done
        self.tls = ssl.create_default_context() if address.tls else None
        self.free: list[_Connection] = []
        self.waiting: deque[int] = deque()
        self.open = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.sent: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.failures: Counter[str] = Counter()

    async def prepare(self) -> None:
        """Open the first connections; OSError where nobody listens."""
        for _ in range(READY):
            self.free.append(await self._connect())

    async def _connect(self) -> _Connection:
        self.open += 1
        try:
            make = asyncio.get_running_loop().create_connection
            return (await make(lambda: _Connection(self), self.address.host, self.address.port, ssl=self.tls))[1]
        except OSError:
            self.open -= 1
            raise

    def send(self, job: int) -> None:
        """Send over a free connection, over a new one, or when one becomes free."""
        if self.free:
            self.free.pop().send(job)
        elif self.open < CONNECTIONS:
            task = asyncio.ensure_future(self._send_over_a_new_one(job))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self.waiting.append(job)

    async def _send_over_a_new_one(self, job: int) -> None:
        try:
            (await self._connect()).send(job)
        except OSError:
            self.began(job)
            self._failed(job, LOST)

    def began(self, job: int) -> None:
        """Note when a request was sent."""
        self.sent[job] = time.perf_counter()

    def ended(self, connection: _Connection, job: int, status: int) -> None:
        """Note an answer, and let the connection serve whoever waits."""
        if status == 200:
            self.answered[job] = time.perf_counter()
        else:
            self.failures[str(status)] += 1
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.free.append(connection)
        self.done(job)

    def lost(self, connection: _Connection) -> None:
        """Note that a connection ended, with its request where it had one."""
        self.open -= 1
        if connection in self.free:
            self.free.remove(connection)
        if connection.job >= 0:
            self._failed(connection.job, LOST)
        if self.waiting:
            self.send(self.waiting.popleft())

    def _failed(self, job: int, kind: str) -> None:
        self.failures[kind] += 1
        self.done(job)

    def close(self) -> None:
        """Close the free connections; those that wait for an answer end with the loop."""
        while self.free:
            self.free.pop().transport.close()


def measured(work: Coroutine[Any, Any, Measured]) -> Measured:
    """Run an `open_loop` or `closed_loop`, on a loop that wakes to the microsecond: epoll's wakes to the millisecond.

    Raises OSError where nobody listens.
    """
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(work)


def arrivals(rate: float, seconds: float, seed: int = 0) -> Array:
    """Return when requests are due, float64 [n] seconds: at random, as from many users (Poisson), the last at
    `seconds`, so that there are `rate` a second.
    """
    due = np.cumsum(np.random.default_rng(seed).exponential(1.0, max(2, round(rate * seconds))))
    return np.asarray(due * (seconds / due[-1]))


async def open_loop(address: Address, payloads: Sequence[bytes], due: Array) -> Measured:
    """Send a request at each of the times `due` (seconds, ascending), and wait for the last answers."""
    left, over = len(due), asyncio.Event()

    def done(_: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set()

    sender = _Sender(address, payloads, done)
    await sender.prepare()
    start = time.perf_counter()
    times = (start + due).tolist()
    for job, at in enumerate(times):
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        sender.send(job)
    try:
        await asyncio.wait_for(over.wait(), PATIENCE)
    except TimeoutError:
        sender.failures[LATE] += left
    return _found(sender, np.array(times), start)


async def closed_loop(address: Address, payloads: Sequence[bytes], connections: int, seconds: float) -> Measured:
    """Send the next request when one is answered, `connections` at a time: what the server can do at most."""
    start, over, jobs = time.perf_counter(), asyncio.Event(), 0
    left = connections

    def done(_: int) -> None:
        nonlocal jobs, left
        if time.perf_counter() - start < seconds:
            jobs += 1
            loop.call_soon(sender.send, jobs - 1)
            return
        left -= 1
        if not left:
            over.set()

    loop, sender = asyncio.get_running_loop(), _Sender(address, payloads, done)
    await sender.prepare()
    start, jobs = time.perf_counter(), connections
    for job in range(connections):
        sender.send(job)
    try:
        await asyncio.wait_for(over.wait(), seconds + PATIENCE)
    except TimeoutError:
        sender.failures[LATE] += left
    due = np.array([sender.sent[job] for job in sorted(sender.sent)])
    return _found(sender, due, start)


def _found(sender: _Sender, due: Array, start: float) -> Measured:
    sender.close()
    jobs = range(len(due))
    answered = np.array([sender.answered.get(job, np.nan) for job in jobs])
    sent = np.array([sender.sent.get(job, np.nan) for job in jobs])
    ends = np.nanmax(answered) if np.isfinite(answered).any() else time.perf_counter()
    return Measured(answered - due, sent - due, dict(sender.failures), float(ends - start))
