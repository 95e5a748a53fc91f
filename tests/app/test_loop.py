"""The loop: what it refuses, what its programs' ends mean; and, long, all of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from recdistill.app.loop import run_loop
from recdistill.app.loop_processes import Program, command, started
from recdistill.config.load import load_file
from recdistill.errors import UserError
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "loop.yaml"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("stream.replay=true", "stream.replay: a loop needs false"),
        ("stream.source.kind=nats", "stream.source.kind: a loop needs table"),
        ("labels.window_s=null", "labels.window_s: a loop needs a number of seconds"),
        ("labels.window_s=7000", "labels.window_s: a loop needs more than 7,200, the seconds of a round"),
        ("stream.health.rows=700", "stream.health.rows: a loop needs at most 600, the rows of labels.window_s"),
        ("stream.batch_rows=0", "stream.batch_rows: a loop needs the rows"),
    ],
)
def test_an_experiment_that_is_no_loop_is_refused_by_its_key(tmp_path: Path, change: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        run_loop(EXAMPLE, load_file(EXAMPLE, [change]), [change], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_where_a_loop_has_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(UserError, match="a loop has run there; choose another --out"):
        run_loop(EXAMPLE, load_file(EXAMPLE, []), [], tmp_path)


def test_a_program_that_ends_says_why(tmp_path: Path) -> None:
    with started(["watch", str(tmp_path / "nothing")], tmp_path / "log") as program:
        program.process.wait()
        with pytest.raises(UserError, match=r"recdistill watch ended: .*nothing.*; see .*log"):
            program.check()
        with pytest.raises(UserError, match="recdistill watch ended"):
            program.address()
    with pytest.raises(UserError, match="recdistill watch failed, as it says above"):
        command(["watch", str(tmp_path / "nothing")])


def test_a_program_is_stopped_with_its_context(tmp_path: Path) -> None:
    with pytest.raises(KeyError), started(["--help"], tmp_path / "log") as program:
        raise KeyError
    assert program.process.poll() is not None and isinstance(program, Program) and sys.executable


@pytest.mark.long
def test_a_whole_loop_takes_new_versions_over(tmp_path: Path) -> None:
    sizes = ["data.options.rows=4000", "data.options.days=1", "stream.batch_rows=2400", "stream.checkpoint_rows=800"]
    sizes += ["stream.health.rows=250", "teacher.kind=pooled-mlp", "students.light.kind=pooled-mlp"]
    summary = run_loop(EXAMPLE, load_file(EXAMPLE, sizes), sizes, tmp_path / "run")
    assert summary.points[-1].requests == 400 and summary.swaps == [(200, 2)] and summary.learned == 1600
    assert sum(one.away for one in summary.points) == 0
    assert json.loads((tmp_path / "run" / "loop.json").read_text())["model"] == "light.distilled.s0"
    assert (tmp_path / "run" / "report.html").exists()
