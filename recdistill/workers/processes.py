"""Parts by a pool of processes on this machine. A process that dies loses its part alone, which another one takes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from recdistill.workers.ledger import Ledger, Work, outcome_of
from recdistill.workers.spawn import adopt, end_with, start_context, without_interrupts, without_main

__all__ = ["in_processes"]


def _serve(work: Work, parts: Connection, alive: Connection, environment: dict[str, str]) -> None:
    """Work on the parts that come, until none does; send back what became of each."""
    adopt(environment)
    threading.Thread(target=end_with, args=(alive,), daemon=True).start()
    while True:
        try:
            part = parts.recv()
        except EOFError:
            return
        parts.send(outcome_of(work, part))


class _Worker:
    """A process, and the number of the part that it works on, None while it waits."""

    def __init__(self, work: Work, alive: Connection) -> None:
        context = start_context()
        self.pipe, theirs = context.Pipe()
        arguments = (work, theirs, alive, dict(os.environ))
        self.process: BaseProcess = context.Process(target=_serve, args=arguments, daemon=True)
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


class _Crew:
    """The processes that work on a job."""

    def __init__(self, work: Work, ledger: Ledger, alive: Connection) -> None:
        self.work, self.ledger, self.alive = work, ledger, alive
        self.workers: list[_Worker] = []

    def step(self) -> None:
        """Give parts to workers that wait; wait until one is done or gone, and note it."""
        for worker in self.workers:
            self._give(worker)
        at = {worker.pipe: worker for worker in self.workers if worker.part is not None}
        for pipe in wait(list(at)):
            worker = at[pipe]  # type: ignore[index]
            number, worker.part = worker.part, None
            if number is None:
                continue
            if outcome := worker.outcome():
                self.ledger.finish(number, outcome)
            else:
                self.ledger.lose(number, f"exit code {worker.end()}")
                self.workers[self.workers.index(worker)] = _Worker(self.work, self.alive)

    def _give(self, worker: _Worker) -> None:
        if worker.part is None and (number := self.ledger.take()) is not None:
            worker.part = number
            try:
                worker.pipe.send(self.ledger.parts[number])
            except OSError:  # it is gone, as the next look at its pipe shows
                return


def in_processes(work: Work, parts: Sequence[Any], count: int) -> Iterator[Any]:
    """Yield `work(part)` of every part, in their order, `count` at a time; see `in_parts`."""
    alive, ours = multiprocessing.Pipe(duplex=False)
    ledger = Ledger(parts, count)
    crew = _Crew(work, ledger, alive)
    try:
        crew.workers.extend(_Worker(work, alive) for _ in range(count))
        yield from ledger.results(crew.step)
    finally:
        ours.close()
        for worker in crew.workers:
            worker.end()
