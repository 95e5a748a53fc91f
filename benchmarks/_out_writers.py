"""Sixteen processes that commit to one table at once, a part of `out.py`: does every row land, and land once."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from _common import report
from _out_places import SERVERS, bucket

from recdistill.storage.location import Location, location
from recdistill.tables.events import EventLog
from tests.support.tables import events, ids_of, make_events

__all__ = ["writers"]

WRITERS, COMMITS, ROWS = 16, 8, 5
CONTEXT = multiprocessing.get_context("forkserver")


def work(place: str, number: int, environment: dict[str, str], ready: Barrier) -> None:
    """Commit COMMITS times, ids that no other writer has; a commit that another was faster than is tried again."""
    os.environ.update(environment)
    log = EventLog.open(location(place))
    ready.wait()
    for sequence in range(COMMITS):
        first = ROWS * (COMMITS * number + sequence)
        log.append(events(range(first, first + ROWS)), writer=f"w{number}", sequence=sequence, new_ids=True)


def raced(place: Location) -> list[str]:
    """Return (seconds, commits, rows, rows lost, rows twice) of a race in a place."""
    log = make_events(place)
    ready = CONTEXT.Barrier(WRITERS + 1)
    processes = [CONTEXT.Process(target=work, args=(str(place), k, dict(os.environ), ready)) for k in range(WRITERS)]
    for process in processes:
        process.start()
    ready.wait()
    start = time.perf_counter()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - start
    found, wanted = ids_of(log.batches()), WRITERS * COMMITS * ROWS
    lost, twice = len(set(range(wanted)) - set(found)), len(found) - len(set(found))
    return [f"{seconds:.1f}", str(log.version), str(len(found)), str(lost), str(twice)]


def writers(folder: Path) -> int:
    """Race in a folder and at each server; print the table, and return 0 where every row is there once."""
    CONTEXT.set_forkserver_preload(["recdistill.tables.events", "tests.support.tables"])
    rows = [["a folder", *raced(folder / "raced")]]
    for server in SERVERS:
        with bucket(server, folder) as place:
            rows.append([server, *raced(place / "raced")])
    met = all(row[2:] == [str(WRITERS * COMMITS), str(WRITERS * COMMITS * ROWS), "0", "0"] for row in rows)
    columns = ["where", "s", "commits", "rows", "lost", "twice"]
    return report(f"{WRITERS} processes, {COMMITS} commits each", columns, rows, met, "every row there, and once")
