"""What each commit added and what stands at a version, read from the Delta log itself: order and versions are exact.

    commits 0, 1, 2 ...      appends carry dataChange = true, compaction carries false
    added_parts              the appends after a version: what a follower reads, whatever was compacted since
    commits                  all of them one by one, with what their writers said of them
    live_parts               what stands at a version, in commit order; a merged file stands where its first part stood

Where another tool cleaned up the oldest commits, the oldest checkpoint stands for them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from recdistill.errors import UserError
from recdistill.tables.checksum import told, whole
from recdistill.tables.parts import Part

__all__ = [
    "Commit", "added_parts", "check_made", "commits", "commits_back", "first_line", "last_commit", "live_parts", "newest_after",
    "newest_version", "open_delta", "parts_of", "whole_commit",
]  # fmt: skip

COUNTED = ("timestamp", "operation", "operationParameters", "operationMetrics", "clientVersion", "engineInfo")


@dataclass(frozen=True)
class Commit:
    """A version of a table: the parts with rows new to it, what its writer said of it, and its writer's (id, sequence)."""

    version: int
    parts: list[Part]
    about: dict[str, str]
    writers: dict[str, int]


Place = tuple[int, str]  # the commit that a part's first row came with, and its path


def first_line(error: Exception) -> str:
    """Return the first line of the error's text; where the library tells causes below it, as a tree, also the last: the root."""
    lines = [" ".join(re.sub(r"\x1b\[\d*m|\u21b3", "", line).split()) for line in str(error).splitlines()]
    root = f": {lines[-1]}" if len(lines) > 1 and "\u21b3" in str(error) else ""
    return lines[0] + root if lines else type(error).__name__


def open_delta(path: Path, version: int | None = None) -> DeltaTable:
    """Return the Delta table at `path`, pinned at `version` (default: the newest); UserError when it cannot be read."""
    version = newest_version(path) if version is None else version
    try:
        return DeltaTable(str(path), version=version)
    except TableNotFoundError:
        raise UserError(f"{path}: no table there") from None
    except (DeltaError, OSError, ValueError) as error:
        raise UserError(f"{path}: the table cannot be read at version {version}: {first_line(error)}") from None


def newest_version(path: Path) -> int:
    """Return the table's newest version, by the names in its log; UserError when there is no table."""
    try:
        names = [name for name in os.listdir(path / "_delta_log") if re.fullmatch(r"\d{20}\.(json|checkpoint.*\.parquet)", name)]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        raise UserError(f"{path}: the table cannot be read: {first_line(error)}") from None
    if not names:
        raise UserError(f"{path}: no table there")
    last = path / "_delta_log" / max(names)
    if not last.stat().st_size:  # what a machine that lost power leaves
        raise UserError(f"{last}: the log of the table is damaged: an empty commit; delete it to go back to the one before")
    return int(last.name[:20])


def whole_commit(path: Path, version: int) -> bool:
    """Return whether a commit's file holds anything; OSError when it is not there."""
    return (path / "_delta_log" / f"{version:020d}.json").stat().st_size > 0


def parts_of(table: DeltaTable) -> list[Part]:
    """Return the parts of the table's version, oldest first by the time they were written."""
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    for name in ("min.sample_id", "max.sample_id"):
        actions = actions if name in actions.columns else actions.with_columns(pl.lit(None, pl.Int64).alias(name))
    named = {name.removeprefix("partition."): name for name in sorted(actions.columns) if name.startswith("partition.")}
    return [
        Part(unquote(row["path"]), {key: str(row[name]) for key, name in named.items()}, row["size_bytes"],
             row["modification_time"], row["min.sample_id"], row["max.sample_id"])
        for row in actions.sort("modification_time", "path").iter_rows(named=True)
    ]  # fmt: skip


def _commit(table: Path, version: int) -> list[dict[str, Any]]:
    path = table / "_delta_log" / f"{version:020d}.json"
    try:
        actions: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not whole(actions):
            raise ValueError("other than its checksum")
        return actions
    except FileNotFoundError:
        raise UserError(f"{path}: this commit was cleaned up; read batches() of a newer version and follow from there") from None
    except (OSError, ValueError, TypeError, AttributeError):
        raise UserError(f"{path}: the log of the table is damaged") from None


def check_made(table: Path) -> None:
    """Raise UserError where the commit that made the table, which describes it, is damaged; it may have been cleaned up."""
    if (table / "_delta_log" / f"{0:020d}.json").exists():
        _commit(table, 0)


def _part(add: dict[str, Any]) -> Part:
    stats = json.loads(add.get("stats") or "{}")
    low, high = (stats.get(key, {}).get("sample_id") for key in ("minValues", "maxValues"))
    partition = dict(sorted(add["partitionValues"].items()))  # the log keeps no order
    return Part(unquote(add["path"]), partition, add["size"], add["modificationTime"], low, high)


def _base(table: Path, upto: int) -> tuple[int, list[Part]]:
    """Return (version, its parts) to start from: -1 and none, or the oldest checkpoint where commits were cleaned up."""
    log = table / "_delta_log"
    if (log / f"{0:020d}.json").exists():
        return -1, []
    versions = sorted({int(path.name[:20]) for path in log.glob("*.checkpoint*.parquet")})
    usable = [v for v in versions if all((log / f"{k:020d}.json").exists() for k in range(v + 1, upto + 1)) and v <= upto]
    if not usable:
        raise UserError(f"{table}: the commits up to version {upto} were cleaned up; read a newer version")
    return usable[0], parts_of(open_delta(table, usable[0]))


def _rows_changed(actions: list[dict[str, Any]]) -> bool:
    return any(action["remove"]["dataChange"] for action in actions if "remove" in action)


def _read_commit(table: Path, version: int) -> Commit:
    """Return one commit; UserError when it is cleaned up, damaged, or changed rows that were there."""
    actions = _commit(table, version)
    if _rows_changed(actions):
        raise UserError(f"{table}: version {version} changed rows that were there; these tables are append-only")
    parts = [_part(action["add"]) for action in actions if "add" in action and action["add"]["dataChange"]]
    infos = [action["commitInfo"] for action in actions if "commitInfo" in action]
    about = {key: str(value) for info in infos for key, value in info.items() if key not in COUNTED}
    about = about if (said := told(actions)) is None else said
    writers = {action["txn"]["appId"]: int(action["txn"]["version"]) for action in actions if "txn" in action}
    return Commit(version, sorted(parts, key=lambda part: part.path), about, writers)


def commits(table: Path, after: int, upto: int) -> Iterator[Commit]:
    """Yield the commits in (after, upto], those without rows too; raises as `added_parts`."""
    for version in range(after + 1, upto + 1):
        yield _read_commit(table, version)


def commits_back(table: Path, version: int) -> Iterator[Commit]:
    """Yield the commits from `version` down to the oldest that was not cleaned up."""
    while version >= 0 and (table / "_delta_log" / f"{version:020d}.json").exists():
        yield _read_commit(table, version)
        version -= 1


def last_commit(table: Path, writer: str) -> Commit | None:
    """Return the newest commit of `writer`, None when it made none; reads back from the newest."""
    return next((commit for commit in commits_back(table, newest_version(table)) if writer in commit.writers), None)


def newest_after(table: Path, version: int) -> int:
    """Return the newest version, looking from `version` (one that exists) on: O(new commits), however many there are."""
    while (table / "_delta_log" / f"{version + 1:020d}.json").exists():
        version += 1
    return version


def added_parts(table: Path, after: int, upto: int) -> Iterator[tuple[int, list[Part]]]:
    """Yield (version, parts) for the commits in (after, upto] that added rows, parts in order of partition.

    From -1 the base of a cleaned-up log counts as one commit. Raises UserError for a commit that is cleaned up,
    damaged, or changed rows that were there.
    """
    if after < 0:
        after, parts = _base(table, upto)
        if parts:
            yield after, parts
    for commit in commits(table, after, upto):
        if commit.parts:
            yield commit.version, commit.parts


def live_parts(table: Path, upto: int) -> list[Part]:
    """Return the parts that stand at version `upto`, in commit order and within a commit in order of partition."""
    start, parts = _base(table, upto)
    places: dict[str, Place] = {part.path: (start, f"{k:012d}") for k, part in enumerate(parts)}
    live = {part.path: part for part in parts}
    for version in range(start + 1, upto + 1):
        actions = _commit(table, version)
        gone = [live.pop(unquote(action["remove"]["path"])) for action in actions if "remove" in action]
        for part in (_part(action["add"]) for action in actions if "add" in action):
            merged = [places[old.path] for old in gone if old.partition == part.partition]
            places[part.path] = min(merged, default=(version, part.path))
            live[part.path] = part
    return sorted(live.values(), key=lambda part: (places[part.path], part.path))
