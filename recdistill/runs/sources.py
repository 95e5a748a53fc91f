"""What a run's log was when it was read, file by file, and in which words it is something else now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recdistill.data.readers.base import Log
from recdistill.errors import UserError

__all__ = ["Marks", "all_gone", "check_steady", "difference", "marks_of"]

Marks = dict[str, Any]  # source -> {"version": of its Delta table} or {"files": {path: [bytes, ns, ns, digest]}}


def marks_of(log: Log) -> Marks:
    """Return, for each source of a log, its version, or its files with their bytes, times and a digest of the content.

    Reads every file once. Times are when it was modified and when anything about it changed, ns since 1970.
    """
    return {
        str(source.path.resolve()): {"version": source.version}
        if source.version
        else {"files": {str(path.resolve()): [*_stat(path), _digest(path)] for path in source.files}}
        for source in dict.fromkeys(log.sources)
    }


def _stat(path: Path) -> list[int]:
    about = os.stat(path)
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _files(marks: Marks) -> Iterator[tuple[str, list[Any]]]:
    for source in marks.values():
        yield from source.get("files", {}).items()


def check_steady(marks: Marks) -> None:
    """Raise UserError where a file is another than when `marks` were taken, at the cost of a look."""
    for path, (size, modified, *_) in _files(marks):
        if not Path(path).exists() or _stat(Path(path))[:2] != [size, modified]:
            raise UserError(f"{path}: changed while it was read; run the command again once nobody writes to it")


def all_gone(marks: Marks) -> bool:
    """Return whether nothing is left of what was read; a run goes on without it."""
    places = [path for path, _ in _files(marks)] + [path for path, one in marks.items() if "version" in one]
    return bool(places) and not any(Path(path).exists() for path in places)


def difference(marks: Marks, log: Log) -> str:
    """Return in a few words what of the log is another than when `marks` were taken, '' for nothing.

    A file whose bytes and times are the same is not read; else its digest decides.
    """
    for source in log.sources:
        before = marks.get(str(source.path.resolve()), {})
        if source.version != before.get("version", ""):
            return f"{source.path} {_versions(before.get('version', ''), source.version)}"
        old, new = before.get("files", {}), [str(path.resolve()) for path in source.files] if not source.version else []
        for path in [*new, *old]:
            if words := _file_difference(path, old.get(path), path in new):
                return words
    return ""


def _versions(old: str, new: str) -> str:
    (one, _, before), (other, _, now) = old.rpartition(" "), new.rpartition(" ")
    return f"is at version {now}, was at {before}" if one == other else "is another table than it was"


def _file_difference(path: str, old: list[Any] | None, there: bool) -> str:
    if old is None or not there:
        return f"{path} is {'new' if there else 'gone'}"
    now = _stat(Path(path))
    if now == old[:3] or (now[0] == old[0] and _digest(Path(path)) == old[3]):
        return ""
    return f"{path} has {now[0]:,} bytes, had {old[0]:,}" if now[0] != old[0] else f"{path} was written anew"
