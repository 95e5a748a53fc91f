"""The journals: a line per event, read back across processes, half-written lines and all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recdistill.stream.event_log import Journal, read_journals
from tests.support.streams import MadeStream


@pytest.fixture
def made(tmp_path: Path) -> MadeStream:
    """Return a stream in which nothing happened yet."""
    return MadeStream(tmp_path / "run")


def test_a_line_holds_time_process_event_and_details(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Journal(tmp_path / "logs", "gate").write("quarantined", model="teacher", version=3)
    line = json.loads((tmp_path / "logs" / "gate.jsonl").read_text())
    assert (line["process"], line["event"], line["model"], line["version"]) == ("gate", "quarantined", "teacher", 3)
    assert line["time"].endswith("+00:00")
    assert "gate: quarantined  model=teacher  version=3" in capsys.readouterr().err


def test_lines_of_all_processes_come_in_order_of_time(tmp_path: Path) -> None:
    for k in range(4):
        path = tmp_path / ("one.jsonl", "other.jsonl")[k % 2]
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": f"2024-01-01T00:00:0{k}.000+00:00", "k": k}) + "\n")
    assert [line["k"] for line in read_journals(tmp_path, 3)] == [1, 2, 3]


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "one")
    journal.write("whole")
    with journal.path.open("a", encoding="utf-8") as file:
        file.write('{"time": "2024')
    assert [line["event"] for line in read_journals(tmp_path, 10)] == ["whole"]


def test_only_the_end_of_a_long_journal_is_read(made: MadeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(made.folder.logs, "gate")
    for k in range(50):
        journal.write("x", k=k)
    monkeypatch.setattr("recdistill.stream.event_log.LINE_BYTES", 100)
    assert [line["k"] for line in read_journals(made.folder.logs, 3)] == [47, 48, 49]
    size = journal.path.stat().st_size
    with journal.path.open("r+b") as file:
        file.write(b" " * (size // 2))  # what is far back is not looked at
    assert [line["k"] for line in read_journals(made.folder.logs, 3)] == [47, 48, 49]
    monkeypatch.setattr("recdistill.stream.event_log.LINE_BYTES", 10)
    assert read_journals(made.folder.logs, 3) == []  # a line that begins before is left out, not misread
