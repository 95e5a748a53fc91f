"""The file of histories, written: every change in one transaction with how far the tables are read.

Besides what readers look at (serve/histories_file.py):

waiting   samples whose outcome may still come: id, user, item, time (us), state
early     outcomes that came before their samples
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from recdistill.serve.histories_file import FORMAT
from recdistill.serve.histories_record import Event, pack, unpack, updated

__all__ = ["HistoriesStore"]

TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS past (user TEXT PRIMARY KEY, record BLOB, revision INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS past_revision ON past (revision);
CREATE TABLE IF NOT EXISTS waiting (sample INTEGER PRIMARY KEY, user TEXT, item, time INTEGER, state INTEGER);
CREATE INDEX IF NOT EXISTS waiting_time ON waiting (time);
CREATE TABLE IF NOT EXISTS early (sample INTEGER, label REAL, time INTEGER);
"""
CHUNK = 500  # records of one look-up or push


class HistoriesStore:
    """The file at `path`, made where it is missing. One process writes it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = sqlite3.connect(path, isolation_level=None)
        self.file.execute("PRAGMA journal_mode = WAL")
        self.file.execute("PRAGMA synchronous = NORMAL")
        self.file.executescript(TABLES)
        self.about = self._read_about()

    def _read_about(self) -> dict[str, Any]:
        return {key: json.loads(value) for key, value in self.file.execute("SELECT key, value FROM about")}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Let all changes within become one, or none of them."""
        self.file.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.file.execute("COMMIT")
        finally:
            if self.file.in_transaction:
                self.file.execute("ROLLBACK")
                self.about = self._read_about()

    def empty(self, **about: Any) -> None:
        """Forget everything; about: what it is from now on."""
        for table in ("about", "past", "waiting", "early"):
            self.file.execute(f"DELETE FROM {table}")
        self.about = {}
        self.note(format=FORMAT, revision=0, newest=0.0, dropped={}, made=uuid4().hex, **about)

    def note(self, **about: Any) -> None:
        """Write down facts about the file."""
        self.about |= about
        self.file.executemany(
            "INSERT OR REPLACE INTO about VALUES (?, ?)", [(key, json.dumps(value)) for key, value in about.items()]
        )

    def add(self, rows: pl.DataFrame) -> None:
        """Add events: user, item, time (us), known (us), action, in the order in which they are to stand where they
        became known at once.
        """
        columns = ["item", "time", "known", "action"]
        for (user,), mine in rows.group_by("user", maintain_order=True):
            found = mine.select(columns).with_columns(pl.col("time", "known") / 1e6)
            self.change(str(user), [Event(*row) for row in found.iter_rows()])

    def change(self, user: str, added: Sequence[Event], replaced: Sequence[Event] = ()) -> None:
        """Add events of a user, and take others away."""
        row = self.file.execute("SELECT record FROM past WHERE user = ?", (user,)).fetchone()
        events, too_many = updated(
            unpack(row[0] if row else None), added, replaced, self.about["newest"], self.about["length"]
        )
        self.file.execute("INSERT OR REPLACE INTO past VALUES (?, ?, ?)", (user, pack(events), self.about["revision"]))
        if too_many:
            self.drop("event beyond what waits of a user", too_many)

    def drop(self, cause: str, count: int = 1) -> None:
        """Count what is not taken."""
        dropped = self.about["dropped"]
        self.note(dropped={**dropped, cause: dropped.get(cause, 0) + count})

    def wait(self, samples: Iterable[tuple[int, str, int | str, int, int]]) -> None:
        """Keep samples (id, user, item, time us, state) whose outcome may still come."""
        self.file.executemany("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?)", samples)

    def waiting(self, sample: int) -> tuple[str, int | str, int, int] | None:
        """Return (user, item, time us, state) of a sample that waits."""
        found: tuple[str, int | str, int, int] | None = self.file.execute(
            "SELECT user, item, time, state FROM waiting WHERE sample = ?", (sample,)
        ).fetchone()
        return found

    def decided(self, sample: int, state: int) -> None:
        """Set the state of a sample that waits."""
        self.file.execute("UPDATE waiting SET state = ? WHERE sample = ?", (state, sample))

    def take_early(self) -> list[tuple[int, float, int]]:
        """Return the outcomes (sample, label, time us) that came before their samples, and keep them no longer."""
        found = self.file.execute("SELECT sample, label, time FROM early ORDER BY rowid").fetchall()
        self.file.execute("DELETE FROM early")
        return found

    def put_early(self, outcomes: Iterable[tuple[int, float, int]]) -> None:
        """Keep outcomes for samples that are still to come."""
        self.file.executemany("INSERT INTO early VALUES (?, ?, ?)", outcomes)

    def forget(self, before: int) -> int:
        """Let samples and outcomes of before a time (us) wait no longer; return how many outcomes found no sample."""
        self.file.execute("DELETE FROM waiting WHERE time < ?", (before,))
        return self.file.execute("DELETE FROM early WHERE time < ?", (before,)).rowcount

    def changed(self, after: int) -> Iterator[list[tuple[str, bytes]]]:
        """Yield (user, record) of what changed after a revision, some at a time."""
        rows = self.file.execute("SELECT user, record FROM past WHERE revision > ?", (after,))
        while found := rows.fetchmany(CHUNK):
            yield found

    def counts(self) -> tuple[int, int]:
        """Return how many users there are, and how many samples wait."""
        users, waiting = (
            self.file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("past", "waiting")
        )
        return int(users), int(waiting)

    def close(self) -> None:
        """Close the file."""
        self.file.close()
