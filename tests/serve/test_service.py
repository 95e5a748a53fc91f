"""One place where every route's requests are scored: histories that the server keeps, who looks on, time that is up."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.refusal import RefusedError
from recdistill.serve.request import Id, Past, Request
from recdistill.serve.scorer import Scorer
from recdistill.serve.service import Served, Service

PAST = Past([1, 2], [1e8, 2e8], ["positive", "negative"])
ASKED = Request(3, [1, 2, 3], 1e9)


@dataclass
class Kept:
    """Histories of one user; asked: for whom."""

    asked: list[Id] = field(default_factory=list)

    def of(self, user: Id) -> Past | None:
        self.asked.append(user)
        return PAST if user == 3 else None


@pytest.fixture(scope="module")
def live(artefact: Path) -> Live:
    return Live(artefact)


def scores(service: Service, request: Request) -> np.ndarray:
    return asyncio.run(service.answer(request, service.deadline(), "one")).scores


def test_a_history_that_the_server_keeps_is_used_where_the_request_brings_none(live: Live) -> None:
    kept = Kept()
    service = Service(live, Limits(), histories=kept)
    brought = Request(3, [1, 2, 3], 1e9, history=PAST)
    assert np.array_equal(scores(service, ASKED), live.scorer.rank(brought))
    assert np.array_equal(scores(service, Request(4, [1], 1e9)), live.scorer.rank(Request(4, [1], 1e9)))
    assert not np.array_equal(live.scorer.rank(ASKED), live.scorer.rank(brought))
    scores(service, brought)
    scores(service, Request(None, [1], 1e9))
    assert kept.asked == [3, 4]


def test_who_looks_on_gets_every_answer_with_the_history_that_was_used(live: Live) -> None:
    seen: list[Served] = []
    service = Service(live, Limits(), histories=Kept(), observers=[seen.append, seen.append])
    found = scores(service, ASKED)
    with pytest.raises(RefusedError):
        scores(service, Request(3, [], 1e9))
    (first, second) = seen
    assert first is second and first.request == Request(3, [1, 2, 3], 1e9, history=PAST)
    assert (first.version, first.model, first.request_id) == (1, "teacher", "one")
    assert np.array_equal(first.scores, found) and abs(first.time - time.time()) < 3600


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Semaphore, threading.Event, list[int]]:
    """Let no scoring end before an event is set; return (what is released as each begins, the event, how many requests
    each call had).
    """
    begun, go, rank, ranked = threading.Semaphore(0), threading.Event(), Scorer.scores, list[int]()

    def slow(scorer: Scorer, requests: list[Any]) -> object:
        ranked.append(len(requests))
        begun.release()
        go.wait()
        return rank(scorer, requests)

    monkeypatch.setattr(Scorer, "scores", slow)
    return begun, go, ranked


def test_one_that_is_late_keeps_its_thread_and_those_behind_it_are_given_up(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of slow requests makes no more threads than there are."""
    begun, go, ranked = held(monkeypatch)
    service = Service(live, Limits(threads=1, waiting=3))

    async def flood() -> None:
        first = asyncio.create_task(service.answer(ASKED, time.monotonic() + 600, "0"))
        await asyncio.to_thread(begun.acquire)
        try:
            for _ in range(20):
                with pytest.raises(RefusedError, match="no answer within"):
                    await service.answer(ASKED, time.monotonic(), "late")
        finally:
            go.set()
        await first
        await service.answer(ASKED, service.deadline(), "next")

    asyncio.run(flood())
    assert ranked == [1, 1]


def test_requests_that_wait_are_scored_in_one_call_and_a_wrong_one_fails_alone(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, ranked = held(monkeypatch)
    service, wrong = Service(live, Limits(threads=1, together=4)), Request(3, ["x"], 1e9)
    behind = [Request(user, [user, 2], 1e9) for user in range(1, 6)]

    async def burst() -> list[Any]:
        first = asyncio.create_task(service.answer(ASKED, service.deadline() + 600, "0"))
        await asyncio.to_thread(begun.acquire)
        asked = [service.answer(one, service.deadline() + 600, "1") for one in (behind[0], wrong, *behind[1:])]
        rest = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    found = asyncio.run(burst())
    assert ranked == [1, 3, 2]
    assert isinstance(found.pop(2), RefusedError)
    for one, request in zip(found, [ASKED, *behind], strict=True):
        assert np.array_equal(one.scores, live.scorer.rank(request))
