"""Parts that several processes write and one of them commits: all at once, in order, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.errors import UserError
from tests.support.tables import events, ids_of, make_events, process


def test_staged_parts_are_there_with_their_commit_in_the_order_of_names(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(3)])
    later = log.stage(events(range(6, 9)), "job-000002")
    first = log.stage(events(range(3, 6)), "job-000001")
    assert ids_of(log.batches()) == [0, 1, 2]
    version = log.commit_staged([*later, *first], writer="job", sequence=0, metadata={"why": "test"})
    assert version == log.version == 2 and ids_of(log.batches()) == list(range(9))
    commit = log.last_commit("job")
    assert commit is not None and commit.metadata["why"] == "test" and len(commit.parts) == 2


def test_a_commit_that_is_repeated_adds_nothing(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t")
    parts = log.stage(events(range(4)), "job-1")
    for _ in range(2):
        assert log.commit_staged(parts, writer="job", sequence=0) == 1
    assert ids_of(log.batches()) == [0, 1, 2, 3]


def test_a_part_that_is_staged_again_takes_the_place_of_its_own(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t")
    for _ in range(2):
        parts = log.stage(events(range(4)), "job-1")
    assert [path.name for path in log.path.glob("*.parquet")] == ["job-1.parquet"]
    log.commit_staged(parts, writer="job", sequence=0)
    assert ids_of(log.batches()) == [0, 1, 2, 3]


def test_a_part_with_a_wrong_row_is_refused_and_not_written(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t")
    with pytest.raises(UserError, match=r"^here: row 1, column 'sample_id': a sample id may stand once; got 5"):
        log.stage(events([4, 5, 5]), "job-1", source="here")
    assert list(log.path.glob("*.parquet")) == []


def test_another_process_stages_and_this_one_commits(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t")
    done = process("print(repr(log.stage(events([7, 8]), 'job-1')[0].size))", log.path).communicate(timeout=120)
    (mine,) = log.stage(events([7, 8]), "job-1")
    assert done == (f"{mine.size}\n", "")
    log.commit_staged([mine], writer="job", sequence=0)
    assert ids_of(log.batches()) == [7, 8]
