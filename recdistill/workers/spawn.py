"""Starting processes that outlive neither their parent nor a Ctrl-C that it answers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

__all__ = ["end_with", "without_interrupts", "without_main"]


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
