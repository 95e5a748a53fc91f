"""The one way to a score: every route's requests wait, are scored and time out here.

A request waits for one of `Limits.threads` threads, and no more than `Limits.waiting` wait. One that is not answered in
time is refused. If it still waits it is given up; if it is being scored it keeps its thread until it ends, so that slow
requests never make more threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from recdistill.errors import UserError
from recdistill.serve.histories import Histories
from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.meters import Meters
from recdistill.serve.refusal import RefusedError
from recdistill.serve.request import Past, Request
from recdistill.serve.waiting import Answered, Job, Waiting, answering
from recdistill.typing import Array

__all__ = ["Observer", "Served", "Service"]


@dataclass(frozen=True)
class Served:
    """An answer that was given. request: with the history that was used; scores: float32 [C, K]; time: of the answer,
    seconds since 1970.
    """

    request: Request
    version: int
    model: str
    scores: Array
    time: float
    request_id: str


Observer = Callable[[Served], None]  # called by the thread that serves: cheap, never blocks, never raises


class Service:
    """Scores requests. histories: asked where a request brings no history; observers: called after each answer."""

    def __init__(
        self, live: Live, limits: Limits, histories: Histories | None = None, observers: Sequence[Observer] = ()
    ) -> None:
        self.live, self.limits, self.histories, self.observers = live, limits, histories, tuple(observers)
        self.meters = Meters()
        self.meters.follow(live)
        self._waiting = Waiting(limits.together)
        self._threads = ThreadPoolExecutor(limits.threads, "score")

    def deadline(self) -> float:
        """Return until when a request that comes now is to be answered, of `time.monotonic`."""
        return time.monotonic() + self.limits.seconds

    async def answer(self, request: Request, deadline: float, request_id: str) -> Answered:
        """Return the scores of one version. Raises RefusedError for a request that cannot be read, when too many wait,
        and when there is no answer at `deadline`, of `time.monotonic`.
        """
        if len(self._waiting) >= self.limits.waiting:
            raise RefusedError(429, "too many requests wait; try again", wait=True)
        job, began = Job(request, self.live.of(request), Future()), time.monotonic()
        self._waiting.add(job)
        self._threads.submit(self._score_next)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                found = await asyncio.wrap_future(job.future)
        except Exception as error:
            self.live.failed(job.scorer)
            if isinstance(error, UserError):
                raise RefusedError(422, str(error)) from None
            if not isinstance(error, TimeoutError):
                raise
            self._waiting.drop(job)
            self.meters.late.inc()
            raise RefusedError(503, f"no answer within {self.limits.seconds:g} s; try again", wait=True) from None
        self.live.answered(found.scorer, time.monotonic() - began, found.scores)
        self._observed(found, request_id)
        return found

    def _observed(self, found: Answered, request_id: str) -> None:
        self.meters.candidates.inc(len(found.scores))
        self.meters.follow(self.live)
        if self.observers:
            about = found.scorer.artefact.manifest
            served = Served(found.request, about.version, about.model, found.scores, time.time(), request_id)
            for observer in self.observers:
                observer(served)

    def _score_next(self) -> None:
        """Score the request that waits longest, and others in its call; what nobody waits for any more is left out."""
        read = []
        for job in self._waiting.next():
            if job.future.set_running_or_notify_cancel():
                with answering([job.future]):
                    request = self._with_history(job.request)
                    read.append((job, request, job.scorer.reader.arrays(request)))
        if not read:
            return
        scorer = read[0][0].scorer
        with answering([job.future for job, _, _ in read]):
            scores = scorer.scores([inputs for _, _, inputs in read])
            for (job, request, _), one in zip(read, scores, strict=True):
                job.future.set_result(Answered(request, scorer, one))

    def _with_history(self, request: Request) -> Request:
        if request.history is not None or self.histories is None or request.user is None:
            return request
        return replace(request, history=self.histories.of(request.user) or Past())
