"""Requests that wait to be scored, in the order in which they came, and which of them are scored in one call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from recdistill.serve.request import MOST_CANDIDATES, Request
from recdistill.serve.scorer import Scorer
from recdistill.typing import Array

__all__ = ["Answered", "Job", "Waiting", "answering"]

T = TypeVar("T")


@dataclass(frozen=True)
class Answered:
    """Who scored what: the request with the history that was used, the scorer of one version, float32 [C, K]."""

    request: Request
    scorer: Scorer
    scores: Array


@dataclass(frozen=True, eq=False)
class Job:
    """A request, the version that is to score it, and who waits for that."""

    request: Request
    scorer: Scorer
    future: Future[Answered]


class Waiting:
    """A queue of jobs. together: requests of a call at most, which then have MOST_CANDIDATES candidates at most."""

    def __init__(self, together: int) -> None:
        self._together = together
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Let a job wait behind the others."""
        with self._lock:
            self._jobs.append(job)

    def drop(self, job: Job) -> None:
        """Forget a job that nobody waits for, where it is still there."""
        with self._lock, suppress(ValueError):
            self._jobs.remove(job)

    def next(self) -> list[Job]:
        """Return the job that waits longest, and those right behind it that are scored in its call; none where an
        earlier call took all.
        """
        taken: list[Job] = []
        with self._lock:
            candidates = 0
            while self._jobs and len(taken) < self._together:
                job, candidates = self._jobs[0], candidates + len(self._jobs[0].request.items)
                if taken and (job.scorer is not taken[0].scorer or candidates > MOST_CANDIDATES):
                    break
                taken.append(self._jobs.popleft())
        return taken


@contextmanager
def answering(futures: list[Future[T]]) -> Iterator[None]:
    """Let those who wait have what is raised here."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
        for future in futures:
            future.set_exception(error)
