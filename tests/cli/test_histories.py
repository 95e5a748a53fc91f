"""The verb that keeps histories: once, or until it is ended; one process a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from recdistill.app.loop_processes import started
from recdistill.cli.app import app
from recdistill.locks import locked
from recdistill.serve.histories_file import FILE, HistoriesFile
from tests.support.runs import ingested, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "run"
    ingested(root, tiny())
    return root


def test_once_it_fills_and_ends(run: Path) -> None:
    found = CliRunner().invoke(app, ["histories", str(run), "--once"], catch_exceptions=False)
    assert found.exit_code == 0 and HistoriesFile(run).length() == 5


def test_it_goes_on_until_it_is_ended(run: Path, tmp_path: Path) -> None:
    with started(["histories", str(run), "--length", "7"], tmp_path / "log") as program:
        while "events_each=7" not in program.output():
            program.check()
        program.stop()
        assert program.process.returncode == 130 and "run the same command again to resume" in program.output()
    assert HistoriesFile(run).length() == 7


def test_a_second_process_is_refused(run: Path, tmp_path: Path) -> None:
    with locked((run / FILE).with_name("lock"), "busy"), started(["histories", str(run)], tmp_path / "log") as program:
        program.process.wait()
        assert program.process.returncode == 2 and "another process keeps its histories" in program.output()


def test_how_many_are_shown_is_of_the_log(run: Path, tmp_path: Path) -> None:
    with started(["serve", str(run), "--shown", "3"], tmp_path / "log") as program:
        program.process.wait()
        assert program.process.returncode == 2 and "--shown is of the request log; give --log too" in program.output()
