"""Processes start from one that has imported everything, with today's environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from recdistill.workers.spawn import IMPORTED, adopt, start_context, without_main
from tests.support.part_work import imported
from tests.support.paths import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


@linux
def test_a_process_finds_everything_imported_and_is_given_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECDISTILL_BEFORE", "1")
    with without_main():
        with ProcessPoolExecutor(1, start_context()) as first:
            assert first.submit(imported).result() >= set(IMPORTED)
        monkeypatch.delenv("RECDISTILL_BEFORE")
        monkeypatch.setenv("RECDISTILL_SINCE", "2")
        with ProcessPoolExecutor(1, start_context(), adopt, (dict(os.environ),)) as second:
            found = [second.submit(os.getenv, f"RECDISTILL_{name}").result() for name in ("BEFORE", "SINCE")]
    assert found == [None, "2"]


ELSEWHERE = """
import sys
from concurrent.futures import ProcessPoolExecutor
from recdistill.workers import spawn
from tests.support.part_work import imported
from tests.support.paths import ROOT
sys.path.append(sys.argv[1])
spawn.IMPORTED[:] = ["only_there"]
with spawn.without_main(), ProcessPoolExecutor(1, spawn.start_context()) as pool:
    print("only_there" in pool.submit(imported).result())
"""


@linux
def test_modules_are_looked_for_where_they_were_found(tmp_path: Path) -> None:
    (tmp_path / "only_there.py").touch()
    words = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["True"]


@linux
def test_processes_start_afresh_where_a_socket_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_context().get_start_method() == "forkserver"
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + 90 * "x")
    assert start_context().get_start_method() == "spawn"
