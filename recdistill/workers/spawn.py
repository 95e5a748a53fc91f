"""Starting processes that outlive neither their parent nor a Ctrl-C that it answers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext

__all__ = ["adopt", "end_with", "start_context", "without_interrupts", "without_main"]

IMPORTED = ["recdistill.train.build", "torch._dynamo"]  # all that training needs: an optimiser imports the latter
LONGEST = 70  # characters of the folder for temporary files: a socket's path in it may have 107


def start_context() -> ForkServerContext | SpawnContext:
    """Return how processes start: forked from one that has imported everything and done nothing else.

    It stays as long as this process, so that only the first start takes the seconds of the imports. A fork of it is
    sound, for importing starts no pool of threads. Where the system is not Linux, each is started afresh. Either way
    a process may begin with the environment of the first start; see `adopt`.
    """
    if sys.platform != "linux" or len(tempfile.gettempdir()) > LONGEST:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with without_interrupts(), _same_paths():
        forkserver.ensure_running()
    return context


@contextmanager
def _same_paths() -> Iterator[None]:
    """Let an interpreter started meanwhile find the modules that this one finds."""
    ours = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def adopt(environment: dict[str, str]) -> None:
    """Make this process's environment that of the one that started it, given as it was then."""
    os.environ.clear()
    os.environ.update(environment)


def end_with(alive: Connection) -> None:
    """End this process once the other end of `alive` is closed, however that happened; blocks until then."""
    alive.poll(None)  # nothing is ever sent
    os._exit(1)


@contextmanager
def without_main() -> Iterator[None]:
    """Let processes started meanwhile not run the caller's script again: nothing of it is needed there."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    try:
        for name in hidden:
            setattr(main, name, None)
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C, and let processes started meanwhile ignore it for good: it reaches them too, but we answer it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
