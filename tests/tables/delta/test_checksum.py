"""A commit that differs from its checksum is refused; one without is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from recdistill.errors import UserError
from recdistill.tables.events import EventLog
from tests.support.tables import SCHEMA, events

METADATA = {"note": "five", "other": "six"}


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    made = EventLog.create(tmp_path / "events", SCHEMA)
    for sequence in range(3):
        made.append(events(range(sequence * 10, sequence * 10 + 10)), writer="w", sequence=sequence, metadata=METADATA)
    return made


def rewrite(log: EventLog, version: int, change: Callable[[str], str]) -> None:
    """Change the text of a commit."""
    path = log.path / "_delta_log" / f"{version:020d}.json"
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before


def test_a_writers_metadata_is_read_without_the_checksum(log: EventLog) -> None:
    assert [commit.metadata for commit in log.commits(0)] == [METADATA] * 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("five", "fivf"),
        ('"note"', '"nota"'),
        ('"version":1', '"version":2'),
        ('"appId":"w"', '"appId":"v"'),
        ('"add"', '"aed"'),
        ('"commitInfo"', '"commitInfn"'),
        ("recdistill.checksum", "recdistill.checksul"),
        ("crc32 ", "crc12 "),
        ('numRecords\\": 10', 'numRecords\\": 30'),
        ('"modificationTime":1', '"modificationTime":3'),
    ],
)
def test_a_commit_that_was_changed_is_refused(log: EventLog, old: str, new: str) -> None:
    rewrite(log, 2, lambda text: text.replace(old, new))
    with pytest.raises(UserError, match=r"0002\.json: the log of the table is damaged"):
        list(log.commits(-1))


def test_a_commit_cut_after_a_line_is_refused(log: EventLog) -> None:
    rewrite(log, 2, lambda text: text.splitlines()[0] + "\n")
    with pytest.raises(UserError, match="damaged"):
        list(log.batches())


def test_the_commit_that_made_the_table_is_checked_when_it_is_opened(log: EventLog) -> None:
    rewrite(log, 0, lambda text: text.replace('\\"label_click', '\\"label_clicj'))
    with pytest.raises(UserError, match=r"0000\.json: the log of the table is damaged"):
        EventLog.open(log.path)


def test_a_commit_of_another_writer_has_none_and_is_read(log: EventLog) -> None:
    def without(text: str) -> str:
        lines = [json.loads(line) for line in text.splitlines()]
        for line in lines:
            line.get("commitInfo", {}).pop("recdistill.checksum", None)
        return "".join(json.dumps(line) + "\n" for line in lines)

    rewrite(log, 2, without)
    assert [commit.metadata["note"] for commit in log.commits(0)] == ["five"] * 3
    assert sum(len(rows) for rows in log.batches()) == 30
