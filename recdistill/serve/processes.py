"""Several processes that answer on one socket.

The first one listens, starts the others and starts again what dies; it scores nothing itself. Each of the others opens
the artefact, whose files are memory-mapped and so shared, and accepts from the socket once it can answer. They are
started afresh, not forked: neither threads nor an onnxruntime of the first are in them.

Asked to end (SIGTERM, SIGINT), the first asks all others; each answers what it is at, and ends. If the first is killed,
the others notice, and end the same way.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from recdistill.errors import UserError
from recdistill.serve.meters import SHARED, share

__all__ = ["Work", "serve_together"]

AGAIN = 1.0  # seconds until one that could not start is started again
Work = Callable[[socket.socket, Callable[[], None], bool], None]  # serves; calls the second once it does; see _work


class _Worker:
    """The process in one place; `again`: it takes the place of one that died."""

    def __init__(self, number: int, work: Work, ours: socket.socket, again: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._report, theirs = context.Pipe(duplex=False)
        arguments = (number, work, ours, theirs, again)
        self.process: SpawnProcess = context.Process(target=_work, args=arguments, name=f"serve-{number}")
        self.process.start()
        theirs.close()
        self.number, self.ready = number, False

    def started(self) -> str:
        """Wait until it answers; return nothing, or the line that says why it does not."""
        try:
            line = str(self._report.recv())
        except EOFError:
            self.process.join()
            line = f"serve: process {self.number} ended with {self.process.exitcode} before it answered"
        self.ready = not line
        return line

    @property
    def parts(self) -> list[Connection | int]:
        """Return what to wait on: its end, and its report where none came yet."""
        return [self.process.sentinel] if self.ready else [self.process.sentinel, self._report]


def serve_together(work: Work, ours: socket.socket, count: int, announce: Callable[[], None]) -> None:
    """Let `count` processes do `work` on the socket until this one is asked to end; `announce` is called once all
    answer. Raises UserError where one cannot begin.
    """
    with _asked_to_end() as ending, _counts(), contextlib.ExitStack() as end:
        workers = [_Worker(number, work, ours, again=False) for number in range(count)]
        end.callback(_end, workers, ours)
        for worker in workers:
            if line := worker.started():
                raise UserError(line)
        announce()
        while ending not in wait([ending, *(part for worker in workers for part in worker.parts)]):
            _replace(workers, work, ours, ending)


def _replace(workers: list[_Worker], work: Work, ours: socket.socket, ending: Connection) -> None:
    """Start again what has ended, at once where it had answered."""
    for at, worker in enumerate(workers):
        if not worker.ready and worker._report.poll():
            line = worker.started()
            if line:
                print(f"recdistill: {line}", file=sys.stderr, flush=True)
        if worker.process.exitcode is None:
            continue
        if not worker.ready and wait([ending], AGAIN):
            return
        print(
            f"recdistill: serve: process {at} ended with {worker.process.exitcode}; started again",
            file=sys.stderr,
            flush=True,
        )
        workers[at] = _Worker(at, work, ours, again=True)


def _end(workers: list[_Worker], ours: socket.socket) -> None:
    """Ask all to end; each bounds its own time to answer what it is at."""
    ours.close()
    for worker in workers:
        if worker.process.exitcode is None:
            worker.process.terminate()
    for worker in workers:
        worker.process.join()


@contextlib.contextmanager
def _asked_to_end() -> Iterator[Connection]:
    """Give a connection that is ready once this process is asked to end."""
    ending, asked = multiprocessing.Pipe(duplex=False)
    before = {one: signal.signal(one, lambda *_: asked.send(True)) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ending
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def _counts() -> Iterator[None]:
    """Give the processes a folder for their counts, gone with them."""
    with tempfile.TemporaryDirectory(prefix="recdistill-serve-") as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            del os.environ[SHARED]


def _work(number: int, work: Work, ours: socket.socket, report: Connection, again: bool) -> None:
    """Serve, in a process of its own."""
    share(number)

    def ready() -> None:
        report.send("")
        report.close()

    try:
        with contextlib.suppress(KeyboardInterrupt):
            work(ours, ready, again)
    except UserError as error:
        report.send(str(error))
        raise SystemExit(2) from None
