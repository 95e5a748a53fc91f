"""Answers that wait for a thread which nobody waits for: what does not fit is refused, and who answers comes first."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from recdistill.serve.service import Served

__all__ = ["WAITING", "Backlog", "in_background"]

WAITING = 256  # answers
NICE = 19


class Backlog:
    """A bounded queue of answers, iterated until it is ended."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Served | None] = queue.Queue(WAITING)

    def put(self, served: Served) -> bool:
        """Return whether there was room for an answer; never waits."""
        try:
            self._queue.put_nowait(served)
        except queue.Full:
            return False
        return True

    def __iter__(self) -> Iterator[Served]:
        while (served := self._queue.get()) is not None:
            yield served

    @property
    def empty(self) -> bool:
        """Return whether nothing waits."""
        return self._queue.empty()

    def end(self) -> None:
        """Let the iteration end after what waits."""
        self._queue.put(None)


def in_background(name: str, run: Callable[[], None]) -> threading.Thread:
    """Return a thread that runs with low priority, where the system can."""

    def yielding() -> None:
        with suppress(OSError, AttributeError):  # of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        run()

    thread = threading.Thread(target=yielding, name=name, daemon=True)
    thread.start()
    return thread
