"""What a loop waits for: users act round after round, days of theirs in minutes of ours, and what the programs do
takes as long as it takes. So that nothing that is found depends on that, a round begins once what happened before it is
where it would be after so many days.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from recdistill.app.loop_processes import Program
from recdistill.errors import UserError
from recdistill.serve.histories_file import HistoriesFile
from recdistill.tables.delta.log import DeltaLog

__all__ = ["arrived", "wait"]

PAUSE, LONGEST = 0.05, 600.0  # seconds between two looks, and until nothing is expected any more


def arrived(logs: Mapping[str, DeltaLog], rows: Mapping[str, int], kept: HistoriesFile) -> bool:
    """Return whether tables have `rows` rows or more, each by its name, and the histories all that they have."""
    for name, log in logs.items():
        version = log.version
        if log.rows(version) < rows[name] or kept.about()["read"][name] < version:
            return False
    return True


def wait(until: Callable[[], bool], what: str, programs: Sequence[Program]) -> None:
    """Wait until something is so; UserError where a program ends, and where it is not so after LONGEST."""
    last = time.monotonic() + LONGEST
    while not until():
        for program in programs:
            program.check()
        if time.monotonic() >= last:
            raise UserError(f"loop: not within {LONGEST:g} s: {what}; see {programs[0].log.parent}")
        time.sleep(PAUSE)
