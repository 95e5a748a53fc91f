"""Housekeeping while others read and write: small files merged, what nobody needs removed, old days let go."""

from __future__ import annotations

import time
from datetime import timedelta

from recdistill.config.experiment import Experiment
from recdistill.errors import RecdistillError
from recdistill.locks import locked
from recdistill.runs.folder import RunFolder
from recdistill.storage.location import names
from recdistill.stream.event_log import Journal
from recdistill.stream.maintenance.retention import cut_logs
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.delta.paths import is_table
from recdistill.tables.delta.types import moment_of

__all__ = ["Housekeeper", "run_compact"]

EVERY = 30.0  # seconds between two rounds
CUT_EVERY = 600.0
SMALL = 50  # files of one table that make a round worth its while
DATED = ("events", "behaviors", "outcomes", "predictions")


class Housekeeper:
    """Does rounds of housekeeping on the tables of a run, which it keeps open: a round costs what is new, however
    long the stream runs.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, journal: Journal) -> None:
        self.folder, self.experiment, self.journal = folder, experiment, journal
        self.logs: dict[str, DeltaLog] = {}
        self._next_cut = 0.0

    def round(self, retain_days: int | None) -> int:
        """Let old days go, merge the small files of every table that has many, cut the logs; return how many tables
        were merged.

        retain_days: dates of samples older than the newest by more days are let go; None keeps all. One process at a
        time does a round of a run; others wait for it.
        """
        with locked(self.folder.local / "lock.compact", None):
            return self._round(retain_days)

    def _round(self, retain_days: int | None) -> int:
        self._open()
        merged = 0
        for name, log in self.logs.items():
            if retain_days is not None and name in DATED:
                self._let_go(log, retain_days)
            merged += self._merge(log)
        if time.monotonic() >= self._next_cut:
            self._next_cut = time.monotonic() + CUT_EVERY
            if cut := cut_logs(self.folder, self.experiment, self.logs):
                self.journal.write("commits removed", **cut)
        return merged

    def _open(self) -> None:
        """Open the tables that were made since the last round."""
        for path in [
            *(self.folder.tables / name for name in sorted(names(self.folder.tables))),
            self.folder.predictions,
            self.folder.verdicts,
            self.folder.dead,
        ]:
            if path.name not in self.logs and is_table(path):
                self.logs[path.name] = DeltaLog(path)

    def _merge(self, log: DeltaLog) -> bool:
        before = len(log.parts())
        if before < SMALL:
            return False
        if not log.compact():
            self.journal.write("stepped aside", table=log.path.name)
        after = len(log.parts())
        if after < before:
            removed = len(log.vacuum(int(self.experiment.stream.undo_hours + 1)))
            self.journal.write("compacted", table=log.path.name, files=f"{before} -> {after}", removed=removed)
        return after < before

    def _let_go(self, log: DeltaLog, days: int) -> None:
        newest = max((part.newest for part in log.parts() if part.newest is not None), default=None)
        if newest is not None:
            gone = log.expire(moment_of(newest).date() - timedelta(days=days))
            if gone:
                self.journal.write("let go", table=log.path.name, rows=gone)


def run_compact(folder: RunFolder, experiment: Experiment, journal: Journal) -> None:
    """Do a round every half minute, for ever; a failure is logged, and the next round tries again."""
    keeper = Housekeeper(folder, experiment, journal)
    while True:
        try:
            keeper.round(experiment.stream.retain_days)
        except (RecdistillError, OSError) as error:
            journal.write("failed", why=str(error), again_in_s=EVERY)
            keeper = Housekeeper(folder, experiment, journal)
        time.sleep(EVERY)
