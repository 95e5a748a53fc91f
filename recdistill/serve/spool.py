"""Files of JSON lines that a process leaves for another one: written behind a lock, so that a reader takes those alone
that nobody writes to any more, however their writer ended.

DIR/NAME.PID.NUMBER.jsonl    a line per record; at most MAX_LINES, then the next file
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Spool", "finished"]

MAX_LINES = 10_000
MAX_BYTES = 1 << 30  # of a folder; what comes beyond is not written


class Spool:
    """A folder, written by this process as `name`; made by the first record."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._file: TextIO | None = None
        self._lines = self._number = 0

    def add(self, record: dict[str, Any]) -> bool:
        """Write a record; return whether there was room for it."""
        if self._file is None or self._lines == MAX_LINES:
            self.close()
            if sum(path.stat().st_size for path in self.folder.glob("*.jsonl")) > MAX_BYTES:
                return False
            self._file = self._next()
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
        """Return a new file, which is this process's alone; its number comes after what a process of before left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            self._number += 1
            try:
                file = (self.folder / f"{self.name}.{os.getpid()}.{self._number:06}.jsonl").open("x", encoding="utf-8")
            except FileExistsError:
                continue
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
        yield [json.loads(line) for line in file if line.endswith("\n")]
