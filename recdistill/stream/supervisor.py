"""Every process of a stream: started, started again when one is killed, stopped together.

A process shares nothing with the others but the tables, so it may also be started alone, by its role, here or
elsewhere.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from recdistill.errors import RecdistillError, UserError
from recdistill.stream.event_log import Journal
from recdistill.stream.prefork import Child, Prefork

__all__ = ["supervise"]

PATIENCE = 600.0  # seconds in which a process may be killed
FORGIVEN = 20  # times: it starts again at once
AGAIN = 10.0  # seconds until a helper that ended is started again
GRACE = 15.0  # seconds to end by itself when told to; a lease that is lost leaves 20
LOOK = 0.1  # seconds between two looks at them
Children = dict[str, Child]


@contextmanager
def _children(processes: Prefork, roles: list[str]) -> Iterator[Children]:
    """Start the roles; leaving the block, for whatever reason, ends them."""
    children: Children = {}
    try:
        for role in roles:
            children[role] = processes.start(role)
        yield children
    finally:
        _stop(children)


def _stop(children: Children) -> None:
    deadline = time.monotonic() + GRACE
    for child in children.values():
        child.signal(signal.SIGTERM)
    while any(child.poll() is None for child in children.values()):
        if time.monotonic() > deadline:
            for child in children.values():
                child.signal(signal.SIGKILL)
        time.sleep(LOOK)


def supervise(processes: Prefork, roles: list[str], helpers: list[str], journal: Journal) -> Iterator[int]:
    """Run `roles` to their ends beside `helpers`, which have none; yield now and then how many are still at work.

    One that is killed is started again and resumes. Raises UserError or RecdistillError, after having ended the
    others, when one of the roles fails, which has reported why. A helper that fails ends nobody: that is logged,
    and it is started again.
    """
    died: dict[str, list[float]] = {role: [] for role in roles}
    due: dict[str, float] = {}  # helpers to start again, and when
    with _children(processes, [*roles, *helpers]) as children:
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
                    children[role] = processes.start(role)
                elif code is not None:
                    raise (UserError if code == 2 else RecdistillError)(
                        f"{processes.root}: {role} failed; its line above says why"
                    )
            for role in [role for role, at in due.items() if time.monotonic() >= at]:
                children[role] = processes.start(role)
                del due[role]
            yield sum(role in children for role in roles)
            time.sleep(LOOK)


def _forgive(role: str, signal: int, died: list[float], journal: Journal) -> None:
    """Tell of a death; RecdistillError when the same process died too often in too short a time."""
    died[:] = [at for at in died if time.monotonic() - at < PATIENCE] + [time.monotonic()]
    if len(died) > FORGIVEN:
        raise RecdistillError(f"{role} was killed {len(died)} times within {PATIENCE:.0f} s (out of memory?)")
    journal.write("started again", role=role, signal=signal)
