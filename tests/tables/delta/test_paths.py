"""Names of a table's log: commits and checkpoints are known from what else lies there, and what was made is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable

from recdistill.tables.delta.paths import (
    checkpoint_path,
    checkpoint_versions,
    commit_path,
    commit_versions,
    has_commit,
    is_table,
    log_files,
    newest_file,
)
from tests.support.tables import make_events

OTHERS = (
    "_last_checkpoint",
    "recdistill.base.json",
    f"{1:020d}.crc",
    f"{0:020d}.{2:020d}.compacted.json",
    f"{3:020d}.json.tmp",
)


def test_what_the_library_writes_is_found_under_its_name(tmp_path: Path) -> None:
    assert not is_table(tmp_path / "t")
    log = make_events(tmp_path / "t", [range(3), range(3, 6)])
    DeltaTable(str(log.path)).create_checkpoint()
    assert is_table(log.path) and commit_versions(log.path) == [0, 1, 2] and has_commit(log.path, 2)
    assert checkpoint_versions(log.path) == [2] and checkpoint_path(log.path, 2).exists()
    assert newest_file(log.path) == commit_path(log.path, 2) and not has_commit(log.path, 3)


def test_other_files_of_the_log_are_no_commits(tmp_path: Path) -> None:
    folder = commit_path(tmp_path, 0).parent
    folder.mkdir()
    assert newest_file(tmp_path) is None and commit_versions(tmp_path) == checkpoint_versions(tmp_path) == []
    names = [f"{1:020d}.json", f"{10:020d}.json", f"{12:020d}.checkpoint.{1:010d}.{2:010d}.parquet"]
    for name in (*OTHERS, *names):
        (folder / name).touch()
    assert commit_versions(tmp_path) == [1, 10] and checkpoint_versions(tmp_path) == [12]
    assert newest_file(tmp_path) == folder / names[2]
    assert {path.name for path in log_files(tmp_path)} == {*names, *OTHERS[2:]}


def test_without_a_log_there_are_no_versions(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        commit_versions(tmp_path)
