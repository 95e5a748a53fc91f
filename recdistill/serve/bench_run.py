"""A measurement from its first line to its last: the requests, the server, the steps, what is printed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill.errors import UserError
from recdistill.serve.artefact import Artefact, open_artefact
from recdistill.serve.bench import HEADER, QUANTILES, SHARES, Step, at_budget, line, most, sender_alone, steps
from recdistill.serve.bench_requests import drawn_requests, http_bytes, read_requests
from recdistill.serve.bench_server import started
from recdistill.serve.client import Address, Client, RankError
from recdistill.serve.limits import TOKEN

__all__ = ["Found", "Plan", "in_budget", "run"]

REQUESTS = 200  # different ones, sent in turn


@dataclass(frozen=True)
class Plan:
    """What to measure; see the options of `recdistill bench-serve`. rates: empty for shares of what the server can
    do; p99: the budget in ms.
    """

    target: str
    server: tuple[str, ...]
    candidates: int
    events: int | None
    ids: Path | None
    requests: Path | None
    rates: tuple[float, ...]
    seconds: float
    p99: float

    @property
    def url(self) -> bool:
        """Return whether the target is a server that runs already."""
        return self.target.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Found:
    """What was measured. requests: in words; most: requests a second, None where rates were given; candidates: per
    request, on average; sender: requests a second that the sender alone can send; budget: ms of p99.
    """

    model: str
    requests: str
    candidates: float
    most: float | None
    sender: float
    budget: float
    steps: list[Step]


def run(plan: Plan) -> Found:
    """Measure, and print every step when it is over. Raises UserError for a target that cannot be measured."""
    bodies, words = _bodies(plan)
    token = os.environ.get(TOKEN)
    with _address(plan) as url:
        model = _tried(url, token, bodies[0])
        payloads = http_bytes(Address.of(url), token, bodies)
        sender = sender_alone(payloads)
        print(f"{model}; {words}; the sender alone: at least {sender:,.0f} requests/s", flush=True)
        top = None if plan.rates else most(Address.of(url), payloads)
        rates = plan.rates or [share * (top or 0.0) for share in SHARES]
        print(HEADER if top is None else f"answered at most: {top:,.0f} requests/s\n{HEADER}", flush=True)
        found = []
        for one in steps(Address.of(url), payloads, rates, plan.seconds, plan.p99):
            print(line(one), flush=True)
            found.append(one)
    candidates = sum(len(body.get("items", ())) for body in bodies) / len(bodies)
    made = Found(model, words, candidates, top, sender, plan.p99, found)
    print(in_budget(made), flush=True)
    return made


def in_budget(found: Found) -> str:
    """Return in words which rate has its p99 within the budget."""
    best = at_budget(found.steps, found.budget)
    if all(one.latency[QUANTILES.index(0.99)] is None for one in found.steps):
        return "too few requests for a p99; measure for longer with --seconds"
    if best is None:
        return f"no rate that was tried has its p99 within {found.budget:g} ms"
    return (
        f"p99 within {found.budget:g} ms: up to {best.rate:,.0f} requests/s, "
        f"{best.rate * found.candidates:,.0f} candidates/s"
    )


def _bodies(plan: Plan) -> tuple[list[dict[str, Any]], str]:
    """Return the requests, and what they are in words."""
    if plan.requests is not None:
        bodies = read_requests(plan.requests)
        return bodies, f"{len(bodies):,} requests of {plan.requests}"
    if plan.url and plan.ids is None:
        raise UserError("an address has no ids to draw requests from; give --ids ARTEFACT or --requests FILE")
    artefact: Artefact = open_artefact(plan.ids or Path(plan.target))
    events = artefact.manifest.history if plan.events is None else plan.events
    bodies = drawn_requests(artefact, plan.candidates, events, REQUESTS)
    return bodies, f"{plan.candidates:,} candidates and {events:,} events a request"


@contextmanager
def _address(plan: Plan) -> Iterator[str]:
    if plan.url:
        if plan.server:
            raise UserError("options after -- are for a server of an artefact; this one runs already")
        yield plan.target
        return
    with started(Path(plan.target), plan.server) as server:
        print(f"serving {plan.target} at {server.url}, ready after {server.ready:.1f} s", flush=True)
        yield server.url


def _tried(url: str, token: str | None, body: dict[str, Any]) -> str:
    """Send one request first, and return what answers; UserError with the server's own line where it refuses it."""
    try:
        with Client(url, token) as client:
            answer = client.post(body)
    except RankError as error:
        hint = f"; set {TOKEN}" if error.status == 401 else ""
        raise UserError(f"{url}: {error}{hint}") from None
    return f"{answer.model} version {answer.version}"
