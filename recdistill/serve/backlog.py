"""Answers that wait for a thread which nobody waits for: what does not fit is dropped, and who answers comes first."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prometheus_client import Counter

from recdistill.serve.spool import Spool

__all__ = ["WAITING", "Backlog"]

WAITING = 256  # answers
NICE = 19


class Backlog:
    """A bounded queue of what is to be done with answers, by a thread of low priority, where the system can; records
    that are made of them go into a spool. states: counts what each says became of its answer, `dropped` for those that
    there was no room for and `unwritten` for those whose record could not be written.
    """

    def __init__(self, name: str, spool: Spool, states: Counter) -> None:
        self._spool, self._states = spool, states
        self._queue: queue.Queue[Callable[[], str] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, take: Callable[[], str]) -> None:
        """Let `take` be called where there is room for it; never waits."""
        try:
            self._queue.put_nowait(take)
        except queue.Full:
            self._states.labels("dropped").inc()

    def record(self, record: dict[str, Any]) -> bool:
        """Write a record; return whether there was room for it. Nothing waits unwritten while no answer does."""
        written = self._spool.add(record)
        if self._queue.empty():
            self._spool.flush()
        return written

    def close(self) -> None:
        """End after what waits."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (take := self._queue.get()) is not None:
            try:
                state = take()
            except OSError:
                state = "unwritten"
            self._states.labels(state).inc()
        self._spool.close()
