"""Followers and readers through compaction, vacuum, checkpoints and a log that was cleaned up."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path

import pytest
from deltalake import DeltaTable

from recdistill.errors import UserError
from recdistill.tables.delta import merging
from recdistill.tables.events import EventLog
from tests.support.tables import SCHEMA, events, followed, ids_of, make_events, make_predictions, predicted


def clean_up(log: EventLog, history_end: int) -> None:
    """Take away the oldest commits as another tool's cleanup does, after a checkpoint at `history_end`."""
    DeltaTable(str(log.path), version=history_end).create_checkpoint()
    for version in range(history_end):
        (log.path / "_delta_log" / f"{version:020d}.json").unlink()


def test_compaction_keeps_every_row_in_its_place(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(4 * k, 4 * k + 4) for k in range(6)])
    before = [rows.to_dicts() for rows in log.batches(rows=1)]
    log.compact()
    assert [rows.to_dicts() for rows in log.batches(rows=1)] == before
    assert len(log.parts()) == 1
    log.append(events(range(24, 28)), writer="w", sequence=6)
    assert ids_of(log.batches()) == list(range(28))
    log.compact()
    log.compact()  # nothing left to merge
    assert (ids_of(log.batches()), log.rows()) == (list(range(28)), 28)


def test_compaction_by_the_library_is_followed_too(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(3 * k, 3 * k + 3) for k in range(3)])
    DeltaTable(str(log.path)).optimize.compact()
    log.append(events(range(9, 12)), writer="w", sequence=3)
    assert ids_of(followed(log, 0)) == list(range(12))
    assert sorted(ids_of(log.batches())) == list(range(12))


def test_a_live_follower_outlives_vacuum_and_one_that_lags_gets_an_error(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(3 * k, 3 * k + 3) for k in range(3)])
    live = followed(log, 0)
    assert ids_of([next(live)]) == [0, 1, 2]
    log.compact()
    log.vacuum()  # its retention covers the follower
    assert ids_of(live) == list(range(3, 9))
    assert len(log.vacuum(retain_hours=0)) == 3
    with pytest.raises(UserError, match=f"^{log.path}.*removed by vacuum while still to be read; read batches[^\n]*$"):
        list(followed(log, 0))
    assert ids_of(log.batches()) == list(range(9))
    log.append(events(range(9, 12)), writer="w", sequence=3)
    assert ids_of(followed(log, log.version - 1)) == [9, 10, 11]


def test_vacuum_takes_what_a_killed_writer_left(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(3)])
    left = log.path / "left.parquet"
    shutil.copy(log.path / log.parts()[0].path, left)
    log.vacuum()
    assert left.exists()  # perhaps its commit is about to come
    log.vacuum(retain_hours=0)
    assert not left.exists() and ids_of(log.batches()) == [0, 1, 2]


def test_the_librarys_own_checkpoints_take_no_old_commit_away(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(3)])
    DeltaTable(str(log.path)).alter.set_table_properties({"delta.checkpointInterval": "3"})  # 100 by itself
    for commit in (log.path / "_delta_log").glob("*.json"):
        os.utime(commit, (0, 0))
    for sequence in range(1, 5):
        log.append(events(range(3 * sequence, 3 * sequence + 3)), writer="w", sequence=sequence)
    assert list((log.path / "_delta_log").glob("*.checkpoint.parquet"))
    assert ids_of(followed(log, -1)) == ids_of(log.batches()) == list(range(15))
    DeltaTable(str(log.path)).cleanup_metadata()  # whoever asks for it
    assert not (log.path / "_delta_log" / f"{0:020d}.json").exists()
    assert ids_of(followed(log, 3)) == list(range(6, 15)) and ids_of(log.batches()) == list(range(15))
    assert (log.append(events(range(3)), writer="w", sequence=0), log.rows()) == (6, 15)  # checkpoints keep the writers


@pytest.mark.parametrize("compacted", [False, True])
def test_a_log_cleaned_up_by_another_tool_is_read_from_its_checkpoint(tmp_path: Path, compacted: bool) -> None:
    log = make_events(tmp_path / "t", [range(3 * k, 3 * k + 3) for k in range(4)])
    if compacted:
        log.compact()
    history_end = log.version
    clean_up(log, history_end)
    log.append(events(range(12, 15)), writer="w", sequence=4)
    assert ids_of(log.batches()) == list(range(15))
    assert ids_of(log.batches(version=history_end)) == list(range(12))
    assert ids_of(followed(log, history_end)) == [12, 13, 14]
    for read in (lambda: list(log.commits(1, log.version)), lambda: list(log.batches(version=history_end - 1))):
        with pytest.raises(UserError, match=f"^{log.path}.*cleaned up; read [^\n]*$"):
            read()


def test_a_commit_that_changed_rows_is_not_followed(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(3)])
    (log.path / "_delta_log" / f"{2:020d}.json").write_text('{"remove": {"path": "x", "dataChange": true}}\n')
    with pytest.raises(UserError, match="version 2 changed rows that were there; these tables are append-only"):
        list(followed(log, 0))


def test_predictions_are_read_by_model_in_commit_order_after_compaction(tmp_path: Path) -> None:
    log = make_predictions(tmp_path / "p", [range(6 * k, 6 * k + 6) for k in range(4)])
    log.append(predicted(range(5)), model="other/é =%", version=1, kind="prequential", writer="o", sequence=0)
    log.compact()
    log.vacuum(retain_hours=0)
    assert ids_of(log.of("teacher")) == list(range(24))
    assert ids_of(log.of("other/é =%")) == list(range(5))
    assert log.models() == [("other/é =%", 1, "prequential", 5), ("teacher", 1, "prequential", 24)]
    assert log.of("teacher", version=2, columns=["sample_id"]) and not ids_of(log.of("nobody"))


class Late(EventLog):
    """A log whose commits are late: another process has just rearranged the table."""

    def _commit(self, *words: object, **named: object) -> None:
        EventLog.open(self.path).compact()
        super()._commit(*words, **named)  # type: ignore[arg-type]


def test_of_two_that_rearrange_a_table_one_steps_aside(tmp_path: Path) -> None:
    log = EventLog.create(tmp_path / "events", SCHEMA)
    for k in range(6):
        log.append(events(range(3 * k, 3 * k + 3)), writer="ingest", sequence=k)
    files = len(list(log.path.rglob("*.parquet")))
    merged = len(EventLog.open(log.path).parts())
    assert not Late.open(log.path).compact()
    assert len(log.parts()) < merged and len(list(log.path.rglob("*.parquet"))) == files + len(log.parts())
    assert ids_of(log.batches()) == sorted(log.collect(log.scan())["sample_id"].to_list()) == list(range(18))
    assert log.compact() and log.rows() == 18


def test_nothing_expires_while_another_rearranges_the_table(tmp_path: Path) -> None:
    log = EventLog.create(tmp_path / "events", SCHEMA)
    for k in range(10):
        log.append(events(range(3 * k, 3 * k + 3)), writer="ingest", sequence=k)
    day = date(2024, 1, 3)
    assert Late.open(log.path).expire(day) == 0 and log.rows() == 30
    assert log.expire(day) == 20 and ids_of(log.batches()) == list(range(20, 30))
    assert log.expire(day) == 0 and len(list(log.commits(-1))) == log.version + 1


@pytest.mark.parametrize("compacted", [False, True])
def test_old_days_leave_files_that_hold_newer_rows_too(tmp_path: Path, compacted: bool) -> None:
    late = [[0, 1, 2, 5, 6, 7, 9, 10, 11, 12], [15, 16, 3, 4, 17], range(20, 25), [18, 8, 26]]
    log = make_predictions(tmp_path / "p", late)
    log.append(predicted(range(8, 12)), model="other", version=1, kind="prequential", writer="o", sequence=0)
    kept = [k for ids in late for k in ids if k >= 10]
    assert not compacted or log.compact()
    assert log.expire(date(2024, 1, 2)) == 7 + 2 + 1 + 2
    assert ids_of(log.of("teacher")) == kept and ids_of(log.of("other")) == [10, 11]
    log.vacuum(retain_hours=0)
    assert ids_of(log.of("teacher")) == kept and log.rows() == len(kept) + 2


def test_several_merged_files_of_one_round_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_events(tmp_path / "t", [range(3 * k, 3 * k + 3) for k in range(9)])
    monkeypatch.setattr(merging, "MERGED", int(2.5 * log.parts()[0].size))
    assert log.compact() and 3 < len(log.parts()) < 9
    assert ids_of(log.batches()) == list(range(27))
    assert ids_of(EventLog.open(log.path).batches()) == list(range(27))


def test_a_file_that_is_removed_twice_is_refused(tmp_path: Path) -> None:
    log = EventLog.create(tmp_path / "events", SCHEMA)
    log.append(events(range(3)), writer="ingest", sequence=0)
    log.append(events(range(3, 6)), writer="ingest", sequence=1)
    log.compact()
    newest = log.path / "_delta_log" / f"{log.version:020d}.json"
    newest.with_name(f"{log.version + 1:020d}.json").write_bytes(newest.read_bytes())
    with pytest.raises(UserError, match="which was removed before"):
        log.parts()
