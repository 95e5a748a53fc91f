"""Commits are atomic and idempotent, in one process, in several, and in one that is killed."""

from __future__ import annotations

import re
import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from deltalake import write_deltalake

from recdistill.errors import UserError
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from tests.support.tables import SCHEMA, events, followed, ids_of, make_events, make_predictions, process

STOPPED = """
from recdistill.tables.delta import log as commit
write = commit.write_parts
def stopped(*words):
    print("ready", flush=True)
    sys.stdin.readline()
    return write(*words)
commit.write_parts = stopped
try:
    log.append(events(range(5)), writer=sys.argv[2], sequence=0)
except Exception as error:
    print(type(error).__name__, error)
"""
LOOP = """
for sequence in range(int(sys.argv[3]), int(sys.argv[4])):
    log.append(events(range(3 * sequence, 3 * sequence + 3)), writer=sys.argv[2], sequence=sequence)
    print(sequence, flush=True)
"""


def test_a_second_process_with_the_same_writer_is_refused_by_name(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t")
    other = process(STOPPED, log.path, "trainer")
    assert other.stdout is not None and other.stdout.readline() == "ready\n", other.communicate()[1]
    log.append(events(range(10, 15)), writer="trainer", sequence=0)
    out = other.communicate("go\n")[0]
    assert re.fullmatch(rf"UserError {log.path}: writer 'trainer' is in use by another process: .*\n", out)
    assert (ids_of(log.batches()), log.version) == (list(range(10, 15)), 1)


def test_another_writer_may_commit_in_between(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t")
    other = process(STOPPED, log.path, "theirs")
    assert other.stdout is not None and other.stdout.readline() == "ready\n", other.communicate()[1]
    log.append(events(range(10, 15)), writer="ours", sequence=0)
    assert other.communicate("go\n")[0] == ""
    assert ids_of(log.batches()) == [*range(10, 15), *range(5)]
    assert (log.last_sequence("ours"), log.last_sequence("theirs")) == (0, 0)


def test_several_writers_at_once_all_land(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t")
    others = [process(LOOP, log.path, f"w{k}", 8 * k, 8 * k + 8) for k in range(3)]
    for other in others:
        out, err = other.communicate()
        assert len(out.split()) == 8, err
    assert sorted(ids_of(log.batches())) == list(range(72))
    assert log.version == 24


@pytest.mark.parametrize("commits", [1, 5])
def test_kill_9_leaves_whole_commits_and_a_replay_completes_them(tmp_path: Path, commits: int) -> None:
    log = make_events(tmp_path / "t")
    other = process(LOOP, log.path, "w", 0, 1_000)
    assert other.stdout is not None
    for _ in range(commits):
        assert other.stdout.readline(), other.communicate()[1]
    other.kill()  # wherever it is in its next commit
    other.communicate()
    found = Counter(k // 3 for k in ids_of(log.batches()))
    assert set(found) == set(range(log.last_sequence("w") + 1)) >= set(range(commits))
    assert set(found.values()) == {3}
    for sequence in range(len(found) + 2):
        log.append(events(range(3 * sequence, 3 * sequence + 3)), writer="w", sequence=sequence)
    assert ids_of(log.batches()) == list(range(3 * len(found) + 6))


def test_a_failed_commit_can_be_replayed(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(5)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = sorted(log.path.rglob("*"))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))  # what a full disk looks like
        with pytest.raises(UserError, match=f"^{log.path}: cannot write: .*(large|space)") as caught:
            log.append(events(range(5, 2_000)), writer="w", sequence=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert [path for path in sorted(log.path.rglob("*")) if path.is_file()] == [
        path for path in before if path.is_file()
    ]
    assert (ids_of(log.batches()), log.version) == (list(range(5)), 1)
    log.append(events(range(5, 10)), writer="w", sequence=1)
    assert ids_of(log.batches()) == list(range(10))


def test_without_permission_nothing_is_written() -> None:
    code = """
import os
log.append(events(range(5)), writer="w", sequence=0)  # everything is imported by now
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    log.append(events(range(10, 15)), writer="w", sequence=1)
except Exception as error:
    print(type(error).__name__, error)
"""
    with TemporaryDirectory() as name:  # others may look into it, unlike tmp_path
        log = make_events(Path(name) / "t", [range(5)])
        for folder in (log.path / "_delta_log", log.path):
            folder.chmod(0o555)
        Path(name).chmod(0o755)
        out, err = process(code, log.path).communicate()
        for folder in (log.path / "_delta_log", log.path):
            folder.chmod(0o755)
        assert out.startswith(f"UserError {log.path}: cannot write: ") and "ermission denied" in out, out + err
        assert out.count("\n") == 1
        assert ids_of(log.batches()) == list(range(5))


def _other_schema(path: Path) -> None:
    make_events(path)
    EventLog.create(path, EventSchema(tasks=("buy",)))


def _other_tasks(path: Path) -> None:
    make_predictions(path)
    PredictionLog.create(path, ("buy", "click"))


def _foreign(path: Path) -> None:
    write_deltalake(str(path), pl.DataFrame({"a": [1]}).to_arrow())
    EventLog.open(path)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    EventLog.open(path)


def _file_above(path: Path) -> None:
    path.write_text("mine")
    EventLog.create(path, SCHEMA)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (_other_schema, "holds a table of another schema; choose another folder or delete it"),
        (_other_tasks, "holds a table of another schema; choose another folder or delete it"),
        (_foreign, "a Delta table, but not one of recdistill"),
        (_folder, "no table there"),
        (lambda path: EventLog.open(path), "no table there"),
        (_file_above, "the table cannot be made: "),
    ],
)
def test_what_is_not_ours_is_refused(tmp_path: Path, make: Callable[[Path], None], fault: str) -> None:
    with pytest.raises(UserError, match=f"^{tmp_path / 't'}: {fault}[^\n]*$"):
        make(tmp_path / "t")


@pytest.mark.parametrize("damage", ['{"add": {', "", "\x00\x01"])
def test_a_damaged_commit_is_named_and_the_one_before_stays_readable(tmp_path: Path, damage: str) -> None:
    log = make_events(tmp_path / "t", [range(5), range(5, 10)])
    (log.path / "_delta_log" / f"{2:020d}.json").write_text(damage)
    for read in (
        log.rows,
        lambda: list(log.batches()),
        lambda: list(followed(log, 0)),
        lambda: EventLog.open(log.path),
        lambda: log.append(events([20]), writer="w", sequence=2),
    ):
        with pytest.raises(UserError, match=f"^{log.path}[^\n]*$"):
            read()
    assert (ids_of(log.batches(version=1)), log.rows(1)) == (list(range(5)), 5)


def test_names_with_signs_that_end_a_line_elsewhere(tmp_path: Path) -> None:
    """JSON leaves U+0085 and U+2028 as they are, and a commit is an action to a line."""
    schema = EventSchema(("click",), {"a\x85b\u2028c": "string"})
    EventLog.create(tmp_path / "t", schema)
    assert EventLog.open(tmp_path / "t").schema == schema
