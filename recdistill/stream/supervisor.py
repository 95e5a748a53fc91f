"""Every process of a stream: started, started again when one is killed, stopped together.

A process shares nothing with the others but the tables, so it may also be started alone, by its role, here or
elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recdistill.errors import RecdistillError, UserError
from recdistill.stream.event_log import Journal

__all__ = ["end_with_parent", "supervise"]

PATIENCE = 60.0  # seconds that a process must live for its next death to be forgiven
FORGIVEN = 5  # deaths in a row
AGAIN = 10.0  # seconds until a helper that ended is started again
GRACE = 30.0  # seconds to end by itself when asked to
Children = dict[str, subprocess.Popen[bytes]]


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however that came about: its end of our stdin closes."""

    def wait() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock would be held when this process ends by itself
            continue
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _start(root: Path, role: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "recdistill", "role", str(root), role]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})


@contextmanager
def _children(root: Path, roles: list[str]) -> Iterator[Children]:
    """Start the roles; leaving the block, for whatever reason, ends them."""
    children: Children = {}
    try:
        for role in roles:
            children[role] = _start(root, role)
        yield children
    finally:
        _stop(children)


def _stop(children: Children) -> None:
    for child in children.values():
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + GRACE
    for child in children.values():
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def supervise(root: Path, roles: list[str], helpers: list[str], journal: Journal) -> Iterator[int]:
    """Run `roles` to their ends, and `helpers`, which have none; yield now and then how many are still at work.

    One that is killed is started again and resumes. Raises UserError or RecdistillError, after having ended the
    others, when one of the roles fails, which has reported why. A helper that fails ends nobody: that is logged,
    and it is started again.
    """
    died: dict[str, list[float]] = {role: [] for role in roles}
    due: dict[str, float] = {}  # helpers to start again, and when
    with _children(root, [*roles, *helpers]) as children:
        while any(role in children for role in roles):
            for role, code in [(role, child.poll()) for role, child in children.items()]:
                if code is not None and role in helpers:
                    journal.write("failed", role=role, code=code, again_in_s=AGAIN)
                    due[role] = time.monotonic() + AGAIN
                    del children[role]
                elif code == 0:
                    del children[role]
                elif code is not None and code < 0:
                    _forgive(role, -code, died[role], journal)
                    children[role] = _start(root, role)
                elif code is not None:
                    raise (UserError if code == 2 else RecdistillError)(
                        f"{root}: {role} failed; its line above says why"
                    )
            for role in [role for role, at in due.items() if time.monotonic() >= at]:
                children[role] = _start(root, role)
                del due[role]
            yield sum(role in children for role in roles)
            time.sleep(0.2)


def _forgive(role: str, signal: int, died: list[float], journal: Journal) -> None:
    """Log a death; RecdistillError when the same process died too often in a row."""
    died[:] = [at for at in died if time.monotonic() - at < PATIENCE] + [time.monotonic()]
    if len(died) > FORGIVEN:
        raise RecdistillError(f"{role} was killed {len(died)} times within {PATIENCE:.0f} s (out of memory?)")
    journal.write("started again", role=role, signal=signal)
