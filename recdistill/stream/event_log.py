"""Structured logs: one JSON line per event that matters, in the run's folder, and a short line on stderr."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from recdistill.errors import printable

__all__ = ["Journal", "read_journals"]

LINE_BYTES = 1024  # allowed for per line when the last lines are read


class Journal:
    """The log of one process, `logs/NAME.jsonl`: appended line by line, so that a killed process loses at
    most half a line.
    """

    def __init__(self, folder: Path, process: str) -> None:
        self.path, self.process = folder / f"{process}.jsonl", process
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, event: str, **details: object) -> None:
        """Write one line: time, process, event (one or two words) and its details (JSON values)."""
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "process": self.process, "event": event, **details}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        shown = "  ".join(f"{key}={value}" for key, value in details.items())
        print(f"{now[11:19]}  " + printable(f"{self.process}: {event}  {shown}".rstrip()), file=sys.stderr, flush=True)


def read_journals(folder: Path, last: int) -> list[dict[str, object]]:
    """Return the last `last` lines over all processes, oldest first; a half-written line is left out."""
    lines = [
        line for path in sorted(folder.glob("*.jsonl")) for line in _tail(path, last * LINE_BYTES).splitlines()[-last:]
    ]
    found = [parsed for line in lines if (parsed := _parsed(line)) is not None]
    return sorted(found, key=lambda line: str(line["time"]))[-last:]


def _tail(path: Path, size: int) -> str:
    """Return the last `size` bytes of a journal: they grow for as long as a stream runs, and the live page
    asks every second.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read(size).decode("utf-8", "replace")


def _parsed(line: str) -> dict[str, object] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "time" in parsed else None
