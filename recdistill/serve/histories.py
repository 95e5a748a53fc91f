"""Histories that a server keeps: used where a request brings none.

A store that does not answer is no reason to refuse a request: a ranking without the history is worth more to a user
than none, and every server that asks the same store would refuse at once. The answer says so, and a counter.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from recdistill.errors import UserError
from recdistill.serve.histories_file import HistoriesFile
from recdistill.serve.histories_redis import RedisHistories
from recdistill.serve.live import Live
from recdistill.serve.meters import Meters
from recdistill.serve.request import Id, Past
from recdistill.serve.values import id_of

__all__ = ["Histories", "KeptHistories", "PastStore", "open_histories"]

REDIS = ("redis://", "rediss://", "unix://")


class Histories(Protocol):
    """Where a user's events are kept; asked by several threads at a time."""

    def of(self, user: Id) -> Past | None:
        """Return what the user did, None for one who is not known."""
        ...


class PastStore(Protocol):
    """A file or a database of histories, by the user's id as text. All but `age` raise ConnectionError where it does
    not answer.
    """

    def of(self, user: str) -> Past | None: ...
    def length(self) -> int: ...
    def age(self) -> float: ...


class KeptHistories:
    """The histories of a store, by users' ids as requests have them.

    Raises UserError where fewer events are kept than the served model reads.
    """

    def __init__(self, store: PastStore, live: Live, meters: Meters) -> None:
        self.store, self.live = store, live
        wanted = live.scorer.artefact.manifest.history
        try:
            kept: int | None = store.length()
        except ConnectionError as error:
            print(f"recdistill: histories: {error}; requests are answered without, until it answers", flush=True)
            kept = None
        if kept is not None and kept < wanted:
            raise UserError(
                f"histories: {kept:,} events are kept of a user, and the model reads {wanted:,}; run: recdistill "
                f"histories RUN --length {wanted}"
            )
        self.found = meters.counter("recdistill_histories", "Requests without a history, by what was kept.", "kept")
        self.short = meters.counter(
            "recdistill_histories_short", "Requests whose model reads more events than are kept."
        )
        meters.watch("recdistill_histories_age_seconds", "Since the histories were last brought up to date.", store.age)
        self.kept = kept

    def of(self, user: Id) -> Past:
        """Return what is kept of a user, and in its `origin` whether there is anything; UserError for what is no id."""
        try:
            past = self.store.of(str(id_of(user, self.live.scorer.artefact.schema.user_id, "user")))
            found = replace(past, origin="kept") if past is not None else Past(origin="none")
        except ConnectionError:
            found = Past(origin="away")
        self.found.labels(found.origin).inc()
        if (
            self.kept is not None and self.kept < self.live.scorer.artefact.manifest.history
        ):  # a version that came since
            self.short.inc()
        return found


def open_histories(where: str, live: Live, meters: Meters) -> KeptHistories:
    """Return the histories of a run's folder, or at an address of Redis; UserError where there are none."""
    store = RedisHistories(where) if where.startswith(REDIS) else HistoriesFile(Path(where))
    return KeptHistories(store, live, meters)
