"""Histories in one SQLite file, `RUN/histories/past.sqlite`, that a process of its own writes while servers read it.

about    key -> JSON: format, table (the id of the table they come from), length (events kept of a user), newest (event
         time of the newest row, seconds), looked (when the tables were last looked at, seconds since 1970), ...
past     a user's id as text -> record (histories_record.py), and the revision in which it changed

A reader sees whole transactions, however the writer ends. Nothing of it is held in memory but the pages in use.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from recdistill.errors import UserError
from recdistill.serve.request import Past

__all__ = ["FILE", "FORMAT", "HistoriesFile", "past_of"]

FILE = Path("histories") / "past.sqlite"  # below a run's folder
FORMAT = 1
PATIENCE = 0.25  # seconds that a read may wait


def past_of(record: bytes | str | None) -> Past | None:
    """Return a record's events as a request brings them, None of None; ValueError, KeyError or TypeError as
    `unpack`.
    """
    if record is None:
        return None
    tree = from_json(record)
    items, times, known, actions = (tree[name] for name in ("items", "times", "known", "actions"))
    if not len(items) == len(times) == len(known) == len(actions):
        raise ValueError("columns of other lengths")
    return Past(items, times, actions, known)


class HistoriesFile:
    """The histories of a run, read. Raises UserError where there are none yet, or none of this format."""

    def __init__(self, run: Path) -> None:
        self.path = run / FILE if run.is_dir() else run
        self._threads = threading.local()
        fill = f"fill them, and keep them filled, with: recdistill histories {run}"
        if not self.path.is_file():
            raise UserError(f"{self.path}: no histories there; {fill}")
        try:
            about = self.about()
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: the histories cannot be read: {error}; delete it, and {fill}") from None
        if about.get("format") != FORMAT:
            raise UserError(f"{self.path}: no histories of this version; {fill}")

    def _open(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        if not hasattr(self._threads, "file"):
            self._threads.file = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", PATIENCE, uri=True)
        found: sqlite3.Connection = self._threads.file
        return found

    def about(self) -> dict[str, Any]:
        """Return what the file says of itself; sqlite3.Error where it cannot be read."""
        return {key: json.loads(value) for key, value in self._open().execute("SELECT key, value FROM about")}

    def of(self, user: str) -> Past | None:
        """Return a user's kept events, None for one without; ConnectionError where the file cannot be read."""
        try:
            row = self._open().execute("SELECT record FROM past WHERE user = ?", (user,)).fetchone()
            return past_of(row[0] if row else None)
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise ConnectionError(f"{self.path}: {error}") from None

    def length(self) -> int:
        """Return how many known events are kept of a user."""
        return int(self.about()["length"])

    def age(self) -> float:
        """Return the seconds since the tables were last looked at; infinity where the file cannot be read."""
        try:
            return max(0.0, time.time() - float(self.about()["looked"]))
        except (sqlite3.Error, KeyError, ValueError):
            return float("inf")
