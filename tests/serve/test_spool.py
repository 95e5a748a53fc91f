"""Files that one process leaves for another: whole, once nobody writes to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.serve import spool
from recdistill.serve.spool import Spool, finished


def records(folder: Path) -> list[object]:
    """Return what is in the files, None for one that is written to."""
    found: list[object] = []
    for path in sorted(folder.glob("*.jsonl")):
        with finished(path) as one:
            found += [None] if one is None else one
    return found


@given(values=st.lists(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text()), max_size=9))
def test_what_was_added_is_read_in_order(tmp_path_factory: pytest.TempPathFactory, values: list[dict]) -> None:  # type: ignore[type-arg]
    folder = tmp_path_factory.mktemp("spool")
    made = Spool(folder, "v1")
    assert all(made.add(value) for value in values)
    made.close()
    assert records(folder) == values


def test_a_file_that_is_written_to_is_left_alone(tmp_path: Path) -> None:
    made = Spool(tmp_path, "v1")
    made.add({"a": 1})
    made.flush()
    assert records(tmp_path) == [None]
    made.close()
    assert records(tmp_path) == [{"a": 1}]


def test_a_file_is_ended_and_the_next_one_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_LINES", 2)
    made = Spool(tmp_path, "v1")
    for number in range(5):
        made.add({"n": number})
    made.flush()
    assert records(tmp_path) == [*({"n": number} for number in range(4)), None]
    assert len(list(tmp_path.glob("v1.*.jsonl"))) == 3


def test_no_file_has_the_name_of_one_that_was_taken(tmp_path: Path) -> None:
    """Who takes a file remembers it by its name; in a container every process has the number of the one before."""
    names = set()
    for number in range(3):
        made = Spool(tmp_path, "v1")
        made.add({"n": number})
        made.close()
        (path,) = tmp_path.iterdir()
        names.add(path.name)
        path.unlink()
    assert len(names) == 3


def test_a_file_that_is_old_is_ended_by_the_next_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_SECONDS", -1.0)
    made = Spool(tmp_path, "v1")
    for number in range(2):
        made.add({"n": number})
    made.flush()
    assert records(tmp_path) == [{"n": 0}, None]


def test_there_is_an_end_to_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_LINES", 1)
    made = Spool(tmp_path, "v1", most=20)
    assert [made.add({"n": number}) for number in range(5)] == [True, True, True, False, False]


def test_what_a_killed_process_wrote_is_read_up_to_the_line_that_was_cut(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from recdistill.serve.spool import Spool
made = Spool(Path({str(tmp_path)!r}), "v1")
made.add({{"n": 1}})
made._file.write('{{"n": ')
made.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode < 0
    assert records(tmp_path) == [{"n": 1}]
