"""Housekeeping beside live readers and writers: small files merged, files that nobody needs removed, old days let go."""

from __future__ import annotations

import time
from datetime import timedelta

import polars as pl

from recdistill.learn.folder import RunFolder
from recdistill.stream.journal import Journal
from recdistill.tables.commit import DeltaLog
from recdistill.tables.follow import open_delta, parts_of
from recdistill.tables.parts import Part

__all__ = ["compact_once", "run_compact"]

EVERY = 30.0  # seconds between two rounds
SMALL = 50  # files of one table that make a round worth its while
RETAIN_HOURS = 168


def _tables(folder: RunFolder) -> list[DeltaLog]:
    paths = [*sorted(folder.tables.glob("*")), folder.predictions, folder.verdicts]
    return [DeltaLog(path) for path in paths if (path / "_delta_log").exists()]


def _parts(log: DeltaLog) -> list[Part]:
    return parts_of(open_delta(log.path))


def compact_once(folder: RunFolder, retain_days: int | None, journal: Journal) -> int:
    """Merge the small files of every table that has many, and vacuum; return how many tables were merged.

    retain_days: dates of samples older than the newest by more days are let go; None keeps all.
    """
    merged = 0
    for log in _tables(folder):
        if retain_days is not None and log.path.name in ("events", "behaviors", "outcomes", "predictions"):
            _let_go(log, retain_days, journal)
        before = len(_parts(log))
        if before >= SMALL:
            log.compact()
            after = len(_parts(log))
            if after < before:
                merged += 1
                journal.tell("compacted", table=log.path.name, files=f"{before} -> {after}", removed=len(log.vacuum(RETAIN_HOURS)))
    return merged


def _let_go(log: DeltaLog, days: int, journal: Journal) -> None:
    dates = pl.Series([part.partition["date"] for part in _parts(log)], dtype=pl.String).str.to_date()
    newest = dates.max()
    if newest is not None:
        gone = log.expire(newest - timedelta(days=days))  # type: ignore[operator, arg-type]
        if gone:
            journal.tell("let go", table=log.path.name, rows=gone)


def run_compact(folder: RunFolder, retain_days: int | None, journal: Journal) -> None:
    """Do a round every half minute, for ever."""
    while True:
        compact_once(folder, retain_days, journal)
        time.sleep(EVERY)
