"""What a shell offers after Tab, asked for as the shell asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("recdistill")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a working directory with two runs, of which one has models, and folders that are none."""
    for name in ("runs/video", "runs/vast", "single", "runs/$(touch pwned)", "runs/a`id`"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
    for model in ("teacher", "light.raw.s0", "light.distilled.s0"):
        (tmp_path / "runs" / "video" / "models" / model).mkdir(parents=True)
    (tmp_path / "runs" / "no-run").mkdir()
    return tmp_path


def asked(shell: str, instruction: str, place: Path, **further: str) -> str:
    """Return what the command prints when a shell asks."""
    about = {"_RECDISTILL_COMPLETE": f"{instruction}_{shell}", **further}
    done = subprocess.run([COMMAND], capture_output=True, text=True, cwd=place, env={**os.environ, **about})
    assert done.stderr == ""
    return done.stdout


def after_tab(line: str, place: Path) -> list[str]:
    """Return what bash would offer at the end of a line."""
    words = line.split(" ")
    return asked("bash", "complete", place, COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("recdistill comp", ["compare", "compact"]),
        ("recdistill train --mo", ["--model"]),
        ("recdistill report r", ["runs/vast", "runs/video"]),
        ("recdistill report runs/vi", ["runs/video"]),
        ("recdistill compare runs/video s", ["single"]),
        ("recdistill report nowhere/x", []),
        ("recdistill train runs/video --model li", ["light.distilled.s0", "light.raw.s0"]),
        ("recdistill lineage runs/video light.r", ["light.raw.s0"]),
        ("recdistill lineage nowhere l", []),
    ],
)
def test_verbs_options_runs_and_models_are_offered(line: str, offered: list[str], place: Path) -> None:
    assert after_tab(line, place) == offered
    assert not (place / "pwned").exists()


@pytest.mark.parametrize(
    ("shell", "begins"), [("bash", "complete -o default"), ("zsh", "#compdef"), ("fish", "complete")]
)
def test_each_shell_gets_its_script(shell: str, begins: str, place: Path) -> None:
    script = asked(shell, "source", place)
    assert begins in script and "_RECDISTILL_COMPLETE" in script


def test_the_command_shows_the_script_of_a_shell(place: Path) -> None:
    without = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([COMMAND, "--show-completion", "bash"], capture_output=True, text=True, env=without)
    assert (done.returncode, done.stderr) == (0, "") and "complete -o default -F" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash_completes(place: Path) -> None:
    script = asked("bash", "source", place)
    words = "COMP_WORDS=(recdistill report runs/vi); COMP_CWORD=2; _recdistill_completion recdistill"
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{words}; echo "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        cwd=place,
        env=os.environ | {"PATH": path},
    )
    assert done.stdout == "runs/video\n"
