"""`recdistill peek` and `recdistill readers`, as they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.app.peek import peek, print_readers
from recdistill.config.load import load_file
from recdistill.data.readers.published import PUBLISHED
from recdistill.errors import UserError
from tests.support.commands import typed
from tests.support.written import log_with


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the path of a small log."""
    log_with(40, user_id=[k % 5 for k in range(40)]).write_csv(tmp_path / "log.csv")
    return tmp_path / "log.csv"


def test_the_draft_goes_to_the_output_or_to_a_new_file(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = peek(log)
    assert capsys.readouterr().out == text
    draft = log.with_name("draft.yaml")
    assert peek(log, draft) == text == draft.read_text()
    assert capsys.readouterr().out == f"draft: {draft}; settle its doubts ('?'), then: recdistill ingest {draft}\n"
    assert load_file(draft).data.columns.user == "user_id"
    draft.write_text("mine")
    with pytest.raises(UserError, match="is there already; name another file"):
        peek(log, draft)
    with pytest.raises(UserError, match="no such file"):
        peek(log.with_name("none.csv"), log.with_name("second.yaml"))
    assert draft.read_text() == "mine" and not log.with_name("second.yaml").exists()


def test_every_reader_is_listed_with_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    print_readers()
    text = capsys.readouterr().out
    for name, one in PUBLISHED.items():
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
        assert one.patterns[0] in line and one.page in line
        assert all(log in text and rows in text for log, rows in one.logs.items())


def test_the_command_line(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(log.parent)
    assert typed("peek", "log.csv", "--to", "draft.yaml")[0] == 0
    code, text = typed("ingest", "draft.yaml", "--out", "run")
    assert code == 0 and "40" in text
    code, text = typed("peek", "none.csv")
    assert (
        code == 2
        and text
        == "recdistill: none.csv: no such file; name the log itself: a file, a folder, or a pattern in quotes\n"
    )
    code, text = typed("readers")
    assert code == 0 and "movielens" in text
