"""The process that keeps a run's histories for servers: reads what is new in the tables, for ever or once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recdistill.config.experiment import Experiment
from recdistill.locks import locked
from recdistill.runs.folder import RunFolder
from recdistill.serve.histories_file import FILE
from recdistill.stream.event_log import Journal
from recdistill.stream.histories.follower import Follower
from recdistill.stream.histories.store import HistoriesStore

if TYPE_CHECKING:  # its library is an extra
    from recdistill.stream.histories.redis_mirror import RedisMirror

__all__ = ["longest", "run_histories"]

POLL = 0.1  # seconds between two looks


def longest(experiment: Experiment) -> int:
    """Return the longest history that one of the students reads, in events."""
    return max((student.history for student in experiment.students.values()), default=1)


def run_histories(folder: RunFolder, experiment: Experiment, redis: str | None, length: int, once: bool) -> None:
    """Bring the run's histories up to date, in its folder and at a `redis` address where one is given, and keep them
    so, unless `once`. length: known events to keep of a user.

    Raises UserError for a run without histories, one that another process fills, and a Redis that stays away or holds
    those of another run.
    """
    path = folder.here / FILE
    busy = f"{folder.root}: another process keeps its histories; stop it, or let it go on"
    with locked(path.with_name("lock"), busy):
        journal, store = Journal(folder.logs, "histories"), HistoriesStore(path)
        try:
            follower = Follower(folder, experiment, store, length)
            _run(follower, _mirror(redis, store, journal, experiment.stream.patience_s), journal, once)
        finally:
            store.close()


def _mirror(redis: str | None, store: HistoriesStore, journal: Journal, patience_s: float) -> RedisMirror | None:
    if redis is None:
        return None
    from recdistill.stream.histories.redis_mirror import RedisMirror

    return RedisMirror(redis, store, journal, patience_s)


def _run(follower: Follower, mirror: RedisMirror | None, journal: Journal, once: bool) -> None:
    filled = follower.begin()
    while follower.step():
        continue
    if mirror is not None:
        mirror.push()
    users, waiting = follower.store.counts()
    found = {"users": users, "events_each": follower.length, "waiting": waiting}
    journal.write("filled" if filled else "brought up to date", **found, dropped=follower.store.about["dropped"])
    while not once:
        rows = follower.step()
        if mirror is not None:
            mirror.push()
        if not rows:
            time.sleep(POLL)
