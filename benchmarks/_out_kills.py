"""Kills of a run in a bucket, a part of `out.py`: at every point that has a name, and at random moments.

A command is killed by SIGKILL, run again, killed again ...; whenever one reaches its end, its weights, tables and
figures are compared with those of a run in a folder that nobody killed. Commands are forked from a process that has
imported everything, and train in their own process.
"""

from __future__ import annotations

import random
import signal
import time
from dataclasses import astuple
from pathlib import Path

from _common import report
from _out_places import SERVERS, bucket, figures
from kills import EXPERIMENT, Differences, Result, differences, result_of

from recdistill.storage.location import Location, remove
from recdistill.testing.killpoints import VARIABLE
from tests.support.forked import started

__all__ = ["kills"]

POINTS = (  # those that a batch run comes by
    "table.files",
    "table.commit",
    "step.learned",
    "checkpoint.share",
    "checkpoint.written",
    "checkpoint.published",
)
SHARE = 0.7  # of the time of a whole run in which a command is killed: one that goes on has less to do


class Trial:
    """A run that is killed in one place after the other, and what became of it."""

    def __init__(self, config: Path, base: Location, want: tuple[Result, object]) -> None:
        self.config, self.base, self.want = config, base, want
        self.killed, self.compared, self.other_figures = 0, 0, 0
        self.found = Differences()

    def ended(self, moment: float | None = None, **variables: str) -> bool:
        """Start the command, and kill it after `moment` seconds; return whether it came to its end before."""
        place, printed = self.base / f"{self.compared}", self.config.with_suffix(".out")
        process = started(printed, "run", self.config, "--out", place, **variables)
        process.join(moment)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            self.killed += 1
            return False
        if process.exitcode:
            raise SystemExit(f"the run failed with exit code {process.exitcode}: {printed.read_text()}")
        self._compare(place)
        return True

    def _compare(self, place: Location) -> None:
        self.found.add(differences(self.want[0], result_of(place)))
        self.other_figures += figures(place) != self.want[1]
        remove(place)
        self.compared += 1


def named(trial: Trial) -> None:
    """Kill at every point, when it is reached for the first, second, fourth ... time, until a run reaches its end."""
    for point in POINTS:
        count = 1
        while not trial.ended(**{VARIABLE: f"{point}:{count}"}):
            trial.ended()
            count *= 2


def at_random(trial: Trial, wanted: int, seed: int) -> None:
    """Kill so many times, at random moments."""
    draw, start = random.Random(seed), time.perf_counter()
    trial.ended()
    longest = time.perf_counter() - start
    wanted += trial.killed
    while trial.killed < wanted:
        trial.ended(draw.uniform(0, SHARE * longest))
    trial.ended()


def kills(folder: Path, wanted: int, seed: int) -> int:
    """Kill at every named point and `wanted` times at random at each server; return 0 where nothing differs."""
    config, whole = folder / "kills.yaml", folder / "whole"
    text = EXPERIMENT.replace("rows: 3000", "rows: 1200").replace("checkpoint_rows: 300", "checkpoint_rows: 200")
    config.write_text(text, encoding="utf-8")
    process = started(folder / "whole.out", "run", config, "--out", whole)
    process.join()
    if process.exitcode:
        raise SystemExit((folder / "whole.out").read_text())
    want = result_of(whole), figures(whole)
    rows = [row for server in SERVERS for row in _at(server, folder, (config, want), wanted, seed)]
    columns = ["server", "kills", "number", "compared", "lost", "twice", "rows differ", "weights", "figures"]
    met = all(set(row[4:]) == {"0"} for row in rows)
    return report("killed in a bucket, run again, compared", columns, rows, met, "nothing lost, twice or different")


def _at(server: str, folder: Path, run: tuple[Path, tuple[Result, object]], wanted: int, seed: int) -> list[list[str]]:
    rows = []
    with bucket(server, folder) as place:
        for what in ("named points", "random"):
            trial = Trial(run[0], place / what.split()[0], run[1])
            named(trial) if what == "named points" else at_random(trial, wanted, seed)
            counts = (trial.killed, trial.compared, *astuple(trial.found), trial.other_figures)
            rows.append([server, what, *map(str, counts)])
    return rows
