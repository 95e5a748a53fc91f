"""How fast a server is: rates stepped up until it no longer keeps up, and the latencies at each.

Which rates: shares of what the server answers at most, found first with a few connections that send their next request
when one is answered; or those that are given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recdistill.errors import UserError
from recdistill.serve.bench_load import Measured, arrivals, closed_loop, measured, open_loop
from recdistill.serve.client import Address

__all__ = ["HEADER", "QUANTILES", "SHARES", "Step", "at_budget", "line", "most", "sender_alone", "steps"]

SHARES = (0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the most that the server answers
QUANTILES = (0.5, 0.95, 0.99, 0.999)
KEPT_UP = 0.95  # share of a rate that has to be answered in time
FAILED = 0.001  # share of requests that may fail at a rate that counts
LATE = 0.2  # of the p99 budget: a sender later than that measured itself
CLOSED = 8  # connections
PROBE = 2.0  # seconds


@dataclass(frozen=True)
class Step:
    """One rate. answered: a second; latency: ms at `QUANTILES` of those answered, None where they were too few; lag: ms
    at p99 by which the sender was late; failures: by kind; late: the sender lagged, so the server is not to blame.
    """

    rate: float
    answered: float
    latency: tuple[float | None, ...]
    lag: float
    failures: dict[str, int]
    sent: int
    late: bool

    @property
    def kept_up(self) -> bool:
        """Return whether the server answered what was asked of it."""
        return self.answered >= KEPT_UP * self.rate and sum(self.failures.values()) <= FAILED * self.sent

    @property
    def notes(self) -> str:
        """Return what is wrong with the step, in words; empty where nothing is."""
        found = ["" if self.kept_up else "not kept up with", "not reached: the sender was late" if self.late else ""]
        return "; ".join(filter(None, found))


def most(address: Address, payloads: Sequence[bytes]) -> float:
    """Return how many requests a second the server answers when `CLOSED` are under way at any time.

    Raises UserError where it answers none.
    """
    try:
        found = measured(closed_loop(address, payloads, CLOSED, PROBE))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{address.host}:{address.port}: {reason}; start the server first") from None
    answered = np.isfinite(found.latency).sum()
    if not answered:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in found.failures.items())
        raise UserError(f"{address.host}:{address.port}: no request was answered ({kinds})")
    return float(answered / found.seconds)


def steps(
    address: Address, payloads: Sequence[bytes], rates: Sequence[float], seconds: float, budget: float
) -> Iterator[Step]:
    """Yield a step per rate, ascending, up to the first that the server does not keep up with. budget: ms of p99."""
    for number, rate in enumerate(rates):
        found = step(rate, measured(open_loop(address, payloads, arrivals(rate, seconds, seed=number))), budget)
        yield found
        if not found.kept_up:
            return


def step(rate: float, found: Measured, budget: float) -> Step:
    """Return what was measured at a rate."""
    latency = found.latency[np.isfinite(found.latency)] * 1e3
    shown = tuple(
        float(np.quantile(latency, one)) if len(latency) * (1 - one) >= 1 - 1e-9 else None for one in QUANTILES
    )
    lag = float(np.nanquantile(found.lag, 0.99)) * 1e3
    span = found.seconds - (float(latency.min()) / 1e3 if len(latency) else 0.0)  # the last one takes its time too
    return Step(rate, len(latency) / span, shown, lag, found.failures, len(found.latency), lag > LATE * budget)


def at_budget(found: Sequence[Step], budget: float) -> Step | None:
    """Return the highest rate that was kept up with and whose p99 is within `budget` ms; None where none is."""
    p99 = QUANTILES.index(0.99)
    return max(
        (one for one in found if one.kept_up and not one.late and (one.latency[p99] or np.inf) <= budget),
        key=lambda one: one.rate,
        default=None,
    )


def sender_alone(payloads: Sequence[bytes]) -> float:
    """Return how many requests a second are sent and counted where a server in this same thread answers at once: less
    than what the sender can do.
    """

    async def work() -> Measured:
        server = await asyncio.get_running_loop().create_server(_AtOnce, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await closed_loop(Address("127.0.0.1", port, False, "/"), payloads, CLOSED, PROBE / 4)

    found = measured(work())
    return len(found.latency) / found.seconds


class _AtOnce(asyncio.Protocol):
    """Answers what ends with a body's last brace."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def line(one: Step) -> str:
    """Return a step as a line of the printed table."""
    cells = "".join(f"{'–' if ms is None else f'{ms:.2f}':>9}" for ms in one.latency)
    failed = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(one.failures.items()))
    notes = "; ".join(filter(None, [failed, one.notes]))
    return f"{one.rate:>9,.0f}{one.answered:>10,.0f}{cells}{one.lag:>8.2f}  {notes}".rstrip()


HEADER = (
    f"{'rate/s':>9}{'answered':>10}" + "".join(f"{f'p{100 * q:g} ms':>9}" for q in QUANTILES) + f"{'lag ms':>8}  notes"
)
