"""Where a Delta table keeps its log: the one place that knows the names of these files."""

from __future__ import annotations

import re

from recdistill.storage.location import Location

__all__ = [
    "base_path",
    "checkpoint_path",
    "checkpoint_versions",
    "commit_path",
    "commit_versions",
    "has_commit",
    "has_versions",
    "is_table",
    "log_files",
    "newest_file",
    "version_of",
]

LOG = "_delta_log"
COMMIT, CHECKPOINT = r"\d{20}\.json", r"\d{20}\.checkpoint.*\.parquet"


def is_table(table: Location) -> bool:
    """Return whether there is a Delta table."""
    return (table / LOG).is_dir()


def has_versions(table: Location) -> bool:
    """Return whether there is a Delta table with a version."""
    try:
        return newest_file(table) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def commit_path(table: Location, version: int) -> Location:
    """Return the file of the commit that made a version."""
    return table / LOG / f"{version:020d}.json"


def has_commit(table: Location, version: int) -> bool:
    """Return whether the commit of a version is there: made, and not cleaned up."""
    return commit_path(table, version).exists()


def checkpoint_path(table: Location, version: int) -> Location:
    """Return the file of Delta's own checkpoint of a version, where it is one file."""
    return table / LOG / f"{version:020d}.checkpoint.parquet"


def base_path(table: Location) -> Location:
    """Return our own note of the checkpoint that stands for commits that were removed: its version and CRC-32."""
    return table / LOG / "recdistill.base.json"


def version_of(name: str) -> int:
    """Return the version that a file of the log belongs to."""
    return int(name[:20])


def _names(table: Location, pattern: str) -> list[str]:
    return sorted(path.name for path in (table / LOG).iterdir() if re.fullmatch(pattern, path.name))


def log_files(table: Location) -> list[Location]:
    """Return the log's files that belong to a version, oldest first; OSError where there is no log."""
    return [table / LOG / name for name in _names(table, r"\d{20}.*")]


def newest_file(table: Location) -> Location | None:
    """Return the newest commit or checkpoint, None where there is none; OSError where there is no log."""
    names = _names(table, f"{COMMIT}|{CHECKPOINT}")
    return table / LOG / names[-1] if names else None


def commit_versions(table: Location) -> list[int]:
    """Return the versions whose commits are there, oldest first; OSError where there is no log."""
    return [version_of(name) for name in _names(table, COMMIT)]


def checkpoint_versions(table: Location) -> list[int]:
    """Return the versions that Delta's own checkpoints are of, oldest first; OSError where there is no log."""
    return sorted({version_of(name) for name in _names(table, CHECKPOINT)})
