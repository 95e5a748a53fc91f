"""The command line: exit codes, one line of error, what is said when there is nothing to do, a terminal
left in order.
"""

from __future__ import annotations

import errno
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recdistill.cli import app as cli
from recdistill.errors import RecdistillError, UserError
from tests.support.runs import TINY, finish, tiny

SCRIPT = Path(sys.executable).with_name("recdistill")
MODELS = ("teacher", "light.raw.s0", "light.distilled.s0")


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Return (exit code, standard output, standard error) of the command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["recdistill", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the path of a small experiment's file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a trained run."""
    root = tmp_path_factory.mktemp("trained") / "run"
    finish(root, tiny(), *MODELS)
    return root


def test_a_trained_run_is_scored_reported_inspected_and_never_trained_again(
    trained: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    for words, says in (
        (("train", run), "training: nothing to do, every model is already trained"),
        (("train", run, "--model", "teacher"), "training: nothing to do, teacher is already trained"),
        (("ingest", config, "--out", run), "log: nothing to do, already read"),
        (("evaluate", run), "light: eta (auc)"),
        (("report", run), f"report: {run / 'report.html'}"),
        (("inspect", run), "light.distilled.s0"),
        (("run", config, "--out", run), "training: nothing to do"),
    ):
        code, out, err = called(monkeypatch, capsys, *words)
        assert (code, err) == (0, "") and says in out, words
    assert (run / "summary.json").exists() and (run / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("trian", "x"), "No such command 'trian'"),
        (("run", "x.yaml", "--uot", "y"), "No such option"),
        (("run",), "Missing argument"),
        (("run", "none.yaml"), "none.yaml: cannot read the experiment file: No such file"),
        (("run", "tiny.yaml", "--set", "teacher.widht=3"), "unknown key 'teacher.widht'; did you mean 'width'?"),
        (("run", "tiny.yaml", "--set", "teacher"), "write it as key.path=value"),
        (("run", "tiny.yaml", "--out", "tiny.yaml"), "tiny.yaml"),
        (("train", "nowhere"), "nowhere: holds no run; start one with"),
        (("evaluate", "nowhere"), "nowhere: holds no run"),
        (("report", "nowhere"), "nowhere: holds no run"),
        (("inspect", "nowhere"), "nowhere: holds no run"),
        (("inspect", "tiny.yaml"), "tiny.yaml"),
    ],
)
def test_wrong_words(
    words: tuple[str, ...], says: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(config.parent)
    code, out, err = called(monkeypatch, capsys, *words)
    assert code == 2 and says in err and err.count("\n") == 1 and "Traceback" not in err and not out
    assert os.listdir(config.parent) == ["tiny.yaml"]


def test_each_verb_says_what_must_come_before_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")

    def fails(*words: object) -> str:
        code, _, err = called(monkeypatch, capsys, *words)
        assert code == 2 and err.count("\n") == 1
        return err

    assert "not scored yet; run: recdistill evaluate" in fails("report", run)
    assert "did you mean 'light.raw.s0'?" in fails("train", run, "--model", "light.raw")
    shutil.rmtree(run / "models" / "teacher")
    assert "teacher is not trained to the end; run: recdistill train" in fails("evaluate", run)
    shutil.rmtree(run / "models" / "light.distilled.s0")
    assert "teacher is not trained yet" in fails("train", run, "--model", "light.distilled.s0")
    shutil.rmtree(run / "store")
    for verb in ("train", "evaluate"):
        assert "nothing ingested yet; run: recdistill ingest" in fails(verb, run)
    shutil.rmtree(run / "tables")
    assert "nothing ingested yet" in fails("inspect", run)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("a: wrong\n  line"), 2, "a: wrong line"),
        (RecdistillError("ours"), 1, "ours"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x/y"),
            2,
            "disk full: free space and run the same command again",
        ),
        (UserError("t: cannot write: No space left on device (os error 28)"), 2, "disk full: free space"),
        (RecdistillError("weights: I/O error: No space left on device (os error 28)"), 2, "disk full: free space"),
        (PermissionError(errno.EACCES, "Permission denied", "x/y"), 2, "x/y: Permission denied"),
        (
            OSError(errno.EIO, "Input/output error", "x/y"),
            2,
            "x/y: Input/output error; check the disk and run the same command again",
        ),
        (OSError(errno.EIO, "Input/output error"), 2, "a file: Input/output error; check the disk"),
        (OSError(errno.EMFILE, "Too many open files", "x/y"), 1, "unexpected OSError"),
        (ZeroDivisionError("a\nb"), 1, "unexpected ZeroDivisionError: a; run with --verbose"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to resume"),
    ],
)
def test_every_failure_is_one_line(
    error: BaseException,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("recdistill.app.run.inspect_stage", fails)
    got, _, err = called(monkeypatch, capsys, "inspect", trained)
    assert got == code and err.startswith(f"recdistill: {says}") and err.count("\n") == 1
    if isinstance(error, Exception):
        monkeypatch.setattr(sys, "argv", ["recdistill", "inspect", str(trained), "--verbose"])
        with pytest.raises(type(error)):
            cli.main()


def test_a_training_process_fails_in_one_line_and_ends_the_others(config: Path, tmp_path: Path) -> None:
    """The teacher's second block meets a checkpoint folder that cannot be made, far below the command line."""
    run = tmp_path / "run"
    finish(run, tiny())
    (run / "models").write_text("a file where a folder must be", encoding="utf-8")
    done = subprocess.run([SCRIPT, "train", run], capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"recdistill: {run}/models")


def test_ctrl_c_gives_130_one_line_and_the_cursor_back(config: Path, tmp_path: Path) -> None:
    """On a real terminal, as soon as the bars are up; all processes of the terminal get the signal."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # as on a terminal; a shell's background jobs ignore it, and hand that down
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [SCRIPT, "run", config, "--out", tmp_path / "run", "--set", "data.options.rows=50000"],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TERM": "xterm", "OMP_NUM_THREADS": "1"},
    )
    os.close(theirs)
    shown = b""
    while b"rows/s" not in shown:
        shown += os.read(ours, 4096)
    os.killpg(process.pid, signal.SIGINT)
    while part := _read(ours):
        shown += part
    _, err = process.communicate(timeout=600)
    os.close(ours)
    assert process.returncode == 130
    assert err == "recdistill: interrupted; run the same command again to resume\n"
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that nobody holds the other side any more
        return b""


def test_an_adapter_that_stays_silent_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log too short for it: its student learns from what else it hears, and the run says that the adapter
    added nothing.
    """
    sets = [
        "data.options.rows=900",
        "students.light.distill.adapter={}",
        "evaluate.seeds=[0]",
        "candidates.count=0",
        "students.light.distill.candidates=0",
    ]
    code, out, err = called(
        monkeypatch, capsys, "demo", "--out", tmp_path / "run", *(part for one in sets for part in ("--set", one))
    )
    assert code == 0, err
    said = " ".join(out.split())
    assert re.search(
        r"light\.distilled\.s0: its adapter saw 8\d\d samples with both a label and a signal, and gives no target "
        r"before 1,000",
        said,
    ), said  # of 900: the labels of the last are known after the log's end
