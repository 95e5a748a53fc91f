"""Files of JSON lines that a process leaves for another one: written behind a lock, so that a reader takes those alone
that nobody writes to any more, however their writer ended.

DIR/NAME.UNIQUE.NUMBER.jsonl    a line per record; at most MAX_LINES, or of MAX_SECONDS, then the next file
"""

from __future__ import annotations

import fcntl
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

__all__ = ["RECORDS", "SPOOL", "Spool", "finished"]

SPOOL, RECORDS = "shadow", "canary"  # folders beside the versions: of a shadow, and of a canary
MAX_LINES = 10_000
MAX_SECONDS = 60.0  # until a file is ended by the next record, so that others can read it
MAX_BYTES = 1 << 30  # of a folder; what comes beyond is not written


class Spool:
    """A folder, written by this process as `name`; made by the first record. most: bytes that the folder may have."""

    def __init__(self, folder: Path, name: str, most: int = MAX_BYTES) -> None:
        self.folder, self.name, self.most = folder, name, most
        self._file: TextIO | None = None
        self._lines = self._number = 0
        self._began = 0.0
        self._unique = secrets.token_hex(6)  # a process of before may have had this one's number, as in a container

    def add(self, record: dict[str, Any]) -> bool:
        """Write a record; return whether there was room for it."""
        if self._file is None or self._lines >= MAX_LINES or time.monotonic() - self._began > MAX_SECONDS:
            self.close()
            if sum(path.stat().st_size for path in self.folder.glob("*.jsonl")) > self.most:
                return False
            self._file, self._began = self._next(), time.monotonic()
        self._file.write(f"{json.dumps(record)}\n")
        self._lines += 1
        return True

    def flush(self) -> None:
        """Hand over to the system what was written."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """End the file that is written to, if any."""
        if self._file is not None:
            self._file.close()
        self._file, self._lines = None, 0

    def _next(self) -> TextIO:
        """Return a new file, which is this spool's alone; no file ever has the name of one that was there before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        file = (self.folder / f"{self.name}.{self._unique}.{self._number:06}.jsonl").open("x", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file


@contextmanager
def finished(path: Path) -> Iterator[list[dict[str, Any]] | None]:
    """Give the records of a file that nobody writes to, held meanwhile; None for one that somebody does. A line that
    was cut off, as by a kill, is left out.
    """
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        if not path.stat().st_size:  # made a moment ago; whoever writes to it is about to hold it
            yield None
            return
        yield [json.loads(line) for line in file if line.endswith("\n")]
