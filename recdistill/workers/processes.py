"""Parts by a pool of processes on this machine. A process that dies loses its part alone, which another one takes."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from recdistill.errors import RecdistillError
from recdistill.workers.spawn import end_with, without_interrupts, without_main

__all__ = ["AHEAD", "ATTEMPTS", "in_processes", "lost"]

ATTEMPTS = 3  # at a part, before it is given up
AHEAD = 4  # parts per worker that may wait for an earlier one to be done
Work = Callable[[Any], Any]


def lost(part: object, why: str) -> RecdistillError:
    """Return the error about a part that no worker came to the end of."""
    return RecdistillError(
        f"{part}: its worker was lost {ATTEMPTS} times ({why}; out of memory?); run the same command again with fewer "
        "workers, or on machines with more memory"
    )


def _serve(work: Work, parts: Connection, alive: Connection) -> None:
    """Work on the parts that come, until none does; send back (whether it failed, the result or the error)."""
    threading.Thread(target=end_with, args=(alive,), daemon=True).start()
    while True:
        try:
            part = parts.recv()
        except EOFError:
            return
        try:
            outcome = (False, work(part))
        except Exception as error:
            outcome = (True, error)
        parts.send(outcome)


class _Worker:
    """A process, and the number of the part that it works on, None while it waits."""

    def __init__(self, work: Work, alive: Connection) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(work, theirs, alive), daemon=True)
        with without_interrupts(), without_main():
            self.process.start()
        theirs.close()
        self.part: int | None = None

    def outcome(self) -> tuple[bool, Any] | None:
        """Return what it sent, None when it is gone."""
        try:
            failed, value = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return failed, value

    def end(self) -> int | None:
        """End the process; return its exit code."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()
        return self.process.exitcode


@dataclass
class _Crew:
    """The processes, and where the parts are: still to do, worked on, or done and not asked for yet."""

    work: Work
    parts: Sequence[Any]
    alive: Connection
    todo: deque[int] = field(default_factory=deque)
    workers: list[_Worker] = field(default_factory=list)
    done: dict[int, tuple[bool, Any]] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)

    def give(self, before: int) -> None:
        """Give parts with numbers less than `before` to workers that wait."""
        for worker in self.workers:
            if worker.part is None and self.todo and self.todo[0] < before:
                worker.part = self.todo.popleft()
                try:
                    worker.pipe.send(self.parts[worker.part])
                except OSError:  # it is gone, as `take` will see
                    continue

    def take(self) -> None:
        """Wait until a worker is done or gone, and take what there is."""
        at = {worker.pipe: worker for worker in self.workers if worker.part is not None}
        for pipe in wait(list(at)):
            worker = at[pipe]  # type: ignore[index]
            number, worker.part = worker.part, None
            outcome = worker.outcome()
            if number is not None:
                self.done |= {number: outcome} if outcome else self._lost(number, worker)

    def _lost(self, number: int, worker: _Worker) -> dict[int, tuple[bool, Any]]:
        """Put another worker in the place of one that is gone; return the error once that happened too often."""
        self.losses[number] += 1
        code = worker.end()
        self.workers[self.workers.index(worker)] = _Worker(self.work, self.alive)
        if self.losses[number] < ATTEMPTS:
            self.todo.appendleft(number)
            return {}
        return {number: (True, lost(self.parts[number], f"exit code {code}"))}


def in_processes(work: Work, parts: Sequence[Any], count: int) -> Iterator[Any]:
    """Yield `work(part)` of every part, in their order, `count` at a time; see `in_parts`."""
    alive, ours = multiprocessing.get_context("spawn").Pipe(duplex=False)
    crew = _Crew(work, parts, alive, deque(range(len(parts))))
    try:
        crew.workers.extend(_Worker(work, alive) for _ in range(count))
        for number in range(len(parts)):
            while number not in crew.done:
                crew.give(number + AHEAD * count)
                crew.take()
            failed, value = crew.done.pop(number)
            if failed:
                raise value
            yield value
    finally:
        ours.close()
        for worker in crew.workers:
            worker.end()
