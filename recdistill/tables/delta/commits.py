"""What each commit added and what stands at a version, read from the Delta log itself: order and versions are exact.

    commits                  one by one, 0, 1, 2 ...: the rows each added, and the metadata its writer gave it. Appends
                             carry dataChange = true, compaction false: a follower reads each row once
    Snapshot                 the files at a version, in commit order; a merged file stands where its first part stood
    cut                      removes the oldest commits

Where the oldest commits were removed, by `cut` or by another tool, a checkpoint of Delta's stands for them.
"""

from __future__ import annotations

import json
import re
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from recdistill.errors import UserError
from recdistill.storage.location import Location, write
from recdistill.tables.delta.checksum import metadata_of, whole
from recdistill.tables.delta.files import Part
from recdistill.tables.delta.paths import (
    base_path,
    checkpoint_path,
    checkpoint_versions,
    commit_path,
    commit_versions,
    has_commit,
    log_files,
    newest_file,
    version_of,
)
from recdistill.tables.delta.types import EPOCH, TIME
from recdistill.testing.killpoints import reach

__all__ = [
    "Commit",
    "Snapshot",
    "check_follows",
    "check_made",
    "commits",
    "commits_back",
    "committed_here",
    "cut",
    "first_line",
    "kept_commits",
    "last_commit",
    "newest_after",
    "newest_version",
    "open_delta",
    "parts_of",
    "reading",
    "version_before",
    "whole_commit",
]

BOUNDS: dict[str, pl.DataType] = {
    **{f"{edge}.sample_id": pl.Int64() for edge in ("min", "max")},
    **{f"{edge}.time": TIME for edge in ("min", "max")},
}
LIBRARY_KEYS = ("timestamp", "operation", "operationParameters", "operationMetrics", "clientVersion", "engineInfo")


@dataclass(frozen=True)
class Commit:
    """A version of a table: the parts with rows new to it, its writer's metadata, and its writer's (id,
    sequence).
    """

    version: int
    parts: list[Part]
    metadata: dict[str, str]
    writers: dict[str, int]


Place = tuple[int, str]  # the commit that a part's first row came with, and its path


def first_line(error: Exception) -> str:
    """Return the first line of the error's text; where the library puts causes below it, as a tree, also
    the last: the root.
    """
    lines = [" ".join(re.sub(r"\x1b\[\d*m|\u21b3", "", line).split()) for line in str(error).splitlines()]
    root = f": {lines[-1]}" if len(lines) > 1 and "\u21b3" in str(error) else ""
    return lines[0] + root if lines else type(error).__name__


def open_delta(path: Location, version: int | None = None) -> DeltaTable:
    """Return the Delta table at `path`, pinned at `version` (default: the newest); UserError when it cannot be read."""
    version = newest_version(path) if version is None else version
    try:
        return DeltaTable(str(path), version=version)
    except TableNotFoundError:
        raise UserError(f"{path}: no table there") from None
    except (DeltaError, OSError, ValueError) as error:
        raise UserError(f"{path}: the table cannot be read at version {version}: {first_line(error)}") from None


@contextmanager
def reading(table: DeltaTable) -> Iterator[None]:
    """Raise UserError where a table that was opened cannot be read, as its library reads some of it late."""
    try:
        yield
    except (DeltaError, OSError) as error:
        raise UserError(f"{table.table_uri}: the table cannot be read: {first_line(error)}") from None


def newest_version(path: Location) -> int:
    """Return the table's newest version, by the names in its log; UserError when there is no table."""
    try:
        last = newest_file(path)
    except (FileNotFoundError, NotADirectoryError):
        last = None
    except OSError as error:
        raise UserError(f"{path}: the table cannot be read: {first_line(error)}") from None
    if last is None:
        raise UserError(f"{path}: no table there")
    if not last.stat().st_size:  # what a machine that lost power leaves
        raise UserError(
            f"{last}: the log of the table is damaged: an empty commit; delete it to go back to the one before"
        )
    return version_of(last.name)


def whole_commit(path: Location, version: int) -> bool:
    """Return whether a commit's file holds anything; OSError when it is not there."""
    return commit_path(path, version).stat().st_size > 0


def parts_of(table: DeltaTable) -> list[Part]:
    """Return the parts of the table's version, oldest first by the time they were written."""
    with reading(table):
        actions = pl.DataFrame(table.get_add_actions(flatten=True))
    for name, kind in BOUNDS.items():
        actions = actions if name in actions.columns else actions.with_columns(pl.lit(None, kind).alias(name))
    actions = actions.with_columns(pl.col(name).cast(kind, strict=False).to_physical() for name, kind in BOUNDS.items())
    named = {name.removeprefix("partition."): name for name in sorted(actions.columns) if name.startswith("partition.")}
    return [
        Part(
            unquote(row["path"]),
            {key: str(row[name]) for key, name in named.items() if row[name] is not None},
            row["size_bytes"],
            row["modification_time"],
            row["min.sample_id"],
            row["max.sample_id"],
            row["min.time"],
            _padded(row["max.time"]),
            row.get("num_records"),
        )
        for row in actions.sort("modification_time", "path").iter_rows(named=True)
    ]


def _padded(newest: int | None) -> int | None:
    """Return the end of the millisecond: other engines cut the times of statistics down to it."""
    return None if newest is None else newest // 1000 * 1000 + 999


def _commit(table: Location, version: int) -> list[dict[str, Any]]:
    path = commit_path(table, version)
    try:
        actions: list[dict[str, Any]] = [json.loads(line) for line in path.read_bytes().splitlines()]
        if not actions or not whole(actions):
            raise ValueError("empty, or other than its checksum")
        return actions
    except FileNotFoundError:
        raise UserError(
            f"{path}: this commit was cleaned up; read batches() of a newer version and follow from there"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError):
        raise UserError(f"{path}: the log of the table is damaged") from None


def check_made(table: Location) -> None:
    """Raise UserError where the commit that made the table, which describes it, is damaged; it may have
    been cleaned up.
    """
    if has_commit(table, 0):
        _commit(table, 0)


def _part(add: dict[str, Any]) -> Part:
    stats = json.loads(add.get("stats") or "{}")
    least, most = (stats.get(key, {}) for key in ("minValues", "maxValues"))
    values = sorted(add["partitionValues"].items())  # the log keeps no order
    partition = {key: value for key, value in values if value is not None}
    ids, times = (_whole(least), _whole(most)), (_micros(least), _padded(_micros(most)))
    rows = stats.get("numRecords")
    return Part(unquote(add["path"]), partition, add["size"], add["modificationTime"], *ids, *times, rows)


def _whole(bounds: dict[str, Any]) -> int | None:
    """Return the sample id among statistics, None when there is none; tables of others have what they like."""
    found = bounds.get("sample_id")
    return found if isinstance(found, int) else None


def _micros(bounds: dict[str, Any]) -> int | None:
    """Return the time among statistics in us since 1970, None when there is none."""
    try:
        time = datetime.fromisoformat(bounds["time"])
    except (KeyError, TypeError, ValueError):
        return None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)


def _base(table: Location, last: int) -> tuple[int, list[Part]]:
    """Return (version, its parts) to start from: -1 and none, or the oldest checkpoint where commits were
    cleaned up.
    """
    if has_commit(table, 0):
        return -1, []
    present = set(commit_versions(table))
    usable = [v for v in checkpoint_versions(table) if v <= last and present.issuperset(range(v + 1, last + 1))]
    if not usable:
        raise UserError(f"{table}: the commits up to version {last} were cleaned up; read a newer version")
    _check_base(table, usable[0])
    return usable[0], parts_of(open_delta(table, usable[0]))


def _check_base(table: Location, version: int) -> None:
    """Raise UserError where the checkpoint that stands for removed commits is other than when they were removed."""
    recorded = base_path(table)
    if recorded.exists():
        base = json.loads(recorded.read_text(encoding="utf-8"))
        path = checkpoint_path(table, version)
        if base["version"] == version and zlib.crc32(path.read_bytes()) != base["crc32"]:
            raise UserError(f"{path}: the log of the table is damaged")


def cut(table: Location, before: int) -> int:
    """Remove the commits that the newest checkpoint at or before version `before` stands for; return how many.

    Whoever has read up to `before` follows on undisturbed. The checkpoint's checksum is kept next to it, for Delta has
    none.
    """
    files = log_files(table)
    versions = (version_of(path.name) for path in files if path == checkpoint_path(table, version_of(path.name)))
    base = max((version for version in versions if version <= before), default=-1)
    old = [path for path in files if version_of(path.name) < base]
    if old:
        open_delta(table, base)  # raises where it cannot stand for them
        recorded = base_path(table)
        checksum = zlib.crc32(checkpoint_path(table, base).read_bytes())
        write(recorded, json.dumps({"version": base, "crc32": checksum}).encode())
    for file in old:
        file.unlink()
        reach("compact.cut")
    return sum(file.name.endswith(".json") for file in old)


def version_before(table: Location, wall: float) -> int:
    """Return the newest version committed before `wall` (epoch seconds, by its file's time), -1 when none there is."""
    versions = commit_versions(table)
    at = bisect_left(versions, wall, key=lambda version: commit_path(table, version).stat().st_mtime)
    return versions[at - 1] if at else -1


def _rows_changed(actions: list[dict[str, Any]]) -> bool:
    return any(action["remove"]["dataChange"] for action in actions if "remove" in action)


def _read_commit(table: Location, version: int) -> Commit:
    """Return one commit; UserError when it is cleaned up, damaged, or changed rows that were there."""
    actions = _commit(table, version)
    if _rows_changed(actions):
        raise UserError(f"{table}: version {version} changed rows that were there; these tables are append-only")
    parts = [_part(action["add"]) for action in actions if "add" in action and action["add"]["dataChange"]]
    metadata = metadata_of(actions)
    if metadata is None:
        infos = [action["commitInfo"] for action in actions if "commitInfo" in action]
        metadata = {key: str(value) for info in infos for key, value in info.items() if key not in LIBRARY_KEYS}
    writers = {action["txn"]["appId"]: int(action["txn"]["version"]) for action in actions if "txn" in action}
    return Commit(version, sorted(parts, key=lambda part: part.path), metadata, writers)


def commits(table: Location, after: int, last: int) -> Iterator[Commit]:
    """Yield the commits in (after, last], those without rows too.

    Raises UserError for one that was cleaned up, is damaged, or changed rows that were there.
    """
    for version in range(after + 1, last + 1):
        yield _read_commit(table, version)


def commits_back(table: Location, version: int) -> Iterator[Commit]:
    """Yield the commits from `version` down to the oldest that was not cleaned up."""
    while version >= 0 and has_commit(table, version):
        yield _read_commit(table, version)
        version -= 1


def kept_commits(table: Location) -> Iterator[Commit]:
    """Yield the commits that were not cleaned up, oldest first; one that is cleaned up meanwhile is left out.

    Not by the library's own history, which holds Python's lock while it waits for a network: no lease would be renewed.
    """
    for version in commit_versions(table):
        try:
            yield _read_commit(table, version)
        except UserError:
            if has_commit(table, version):
                raise


def last_commit(table: Location, writer: str) -> Commit | None:
    """Return the newest commit of `writer`, None when it made none; reads back from the newest."""
    return next((commit for commit in commits_back(table, newest_version(table)) if writer in commit.writers), None)


def committed_here(table: Location, writer: str, sequence: int, paths: set[str]) -> bool:
    """Return whether the newest commit of `writer` is (writer, sequence) and adds these files, whose names are like no
    others: then it was made, and only the answer was lost.
    """
    commit = last_commit(table, writer)
    if commit is None or not paths:
        return False
    return commit.writers[writer] == sequence and {part.path for part in commit.parts} == paths


def check_follows(table: Location, after: int) -> None:
    """Raise UserError where what was committed after a version was cleaned up: whoever asks what is new
    would wait for ever.
    """
    if newest_version(table) > after and not has_commit(table, after + 1):
        raise UserError(
            f"{table}: the commits after version {after} were cleaned up; nobody can start from there any more "
            "(stream.undo_hours says how long they are kept); start another run"
        )


def newest_after(table: Location, version: int) -> int:
    """Return the newest version, looking from `version` (one that exists) on: O(new commits), however many
    there are.
    """
    while has_commit(table, version + 1):
        version += 1
    return version


class Snapshot:
    """The parts of `version`; it is moved on at the cost of the new commits alone."""

    def __init__(self, table: Location, last: int) -> None:
        self.table = table
        self.version, parts = _base(table, last)
        self._places: dict[str, Place] = {part.path: (self.version, f"{k:012d}") for k, part in enumerate(parts)}
        self._live = {part.path: part for part in parts}

    def reaches(self, last: int) -> bool:
        """Return whether `advance` can come to a version from here."""
        return self.version <= last and (self.version == last or has_commit(self.table, self.version + 1))

    def advance(self, last: int) -> Snapshot:
        """Move on to version `last`, and return it."""
        for version in range(self.version + 1, last + 1):
            actions = _commit(self.table, version)
            names = [unquote(action["remove"]["path"]) for action in actions if "remove" in action]
            if unknown := [name for name in names if name not in self._live]:
                raise UserError(
                    f"{self.table}: version {version} removes {unknown[0]}, which was removed before: two processes "
                    "rearranged the table at once; restore it from a copy, or start another run"
                )
            gone = [self._live.pop(name) for name in names]
            places = {old.path: self._places.pop(old.path) for old in gone}
            for part in (_part(action["add"]) for action in actions if "add" in action):
                merged = [places[old.path] for old in gone if old.partition == part.partition]
                self._places[part.path] = min(merged, default=(version, part.path))
                self._live[part.path] = part
            self.version = version
        return self

    def parts(self) -> list[Part]:
        """Return the parts in commit order, and within a commit in order of partition."""
        return sorted(self._live.values(), key=lambda part: (self._places[part.path], part.path))
