"""Named places where a process may be killed, so that a test can kill it exactly there."""

from __future__ import annotations

import os
import signal

__all__ = ["KILL_POINTS", "VARIABLE", "reach"]

VARIABLE = (
    "RECDISTILL_KILL_POINT"  # NAME or NAME:COUNT: the process kills itself when it reaches NAME for the COUNT-th time
)
KILL_POINTS = (
    "ingest.fetched",
    "ingest.dead",
    "ingest.behaviors",
    "ingest.outcomes",
    "ingest.events",
    "table.files",
    "table.commit",
    "compact.files",
    "compact.cut",
    "model.predicted",
    "model.recorded",
    "step.learned",
    "checkpoint.share",
    "checkpoint.written",
    "checkpoint.published",
    "gate.judged",
    "gate.recorded",
)
_reached = dict.fromkeys(KILL_POINTS, 0)


def reach(name: str) -> None:
    """Kill this process, as `kill -9` would, when the environment asks for it here."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    point, _, count = wanted.partition(":")
    if point == name:
        _reached[name] += 1
        if _reached[name] >= int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
