"""One process at a time, by a lock file."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recdistill.errors import UserError

__all__ = ["locked"]


@contextmanager
def locked(path: Path, busy: str | None) -> Iterator[None]:
    """Hold the lock file `path`, made where it is missing; UserError `busy` when another process holds it, None: wait
    for it.

    The system frees it when its process ends, however that comes about.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise UserError(busy or "") from None
        yield
