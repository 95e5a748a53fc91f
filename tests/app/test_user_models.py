"""A model of the user's own by name in the experiment file, in every verb that builds models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import typed
from tests.support.paths import ROOT

MODULE = """
import torch
from torch import nn
import recdistill as rd


class MyNet(nn.Module):
    output_width = 8

    def __init__(self, width: int, *, tables: rd.TableOptions, depth: int = 1):
        super().__init__()
        self.item = rd.GrowableTable(width, seed=tables.seed, name="item", std=0.05)
        self.body = nn.Sequential(*[nn.Linear(width if not k else 8, 8) for k in range(depth)])

    def forward(self, batch):
        return torch.relu(self.body(self.item(batch.item.unique)[batch.item.inverse]))


class NoWidth(MyNet):
    output_width = None


class Alone(MyNet):
    def forward(self, batch):
        if len(batch.labels) == 0:
            raise IndexError("nobody is there\\nat all")
        return super().forward(batch)


class Counting(MyNet):
    def forward(self, batch):
        return super().forward(batch) / (1 + int(batch.item.inverse.sum()))
"""
CONFIG = """
name: own
data: {reader: simulator, options: {rows: 400, users: 30, items: 40, days: 0.5}}
teacher: {kind: "mymodels:MyNet", width: 8, history: 5, batch: 50, options: {depth: 2}}
students: {light: {kind: "mymodels:MyNet", width: 4, history: 5, batch: 50}}
evaluate: {seeds: [0], bootstrap: 20}
checkpoint_rows: 200
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a user whose module lies there, which no other test finds imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "mymodels", None)
    monkeypatch.delitem(sys.modules, "mymodels")
    (tmp_path / "mymodels.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "own.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "grid.yaml").write_text("grid: {options.depth: [1, 2]}\n", encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text("axes: {width: {width: [4, 8]}}\n", encoding="utf-8")
    return tmp_path


def called(place: Path, *words: str) -> tuple[int, str]:
    """Call the command line in a process of its own, which finds the package elsewhere."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.path.remove(''); from recdistill.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=place, env={"PATH": "/usr/bin:/bin"}
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("run", "own.yaml", "--out", "run"),
        ("stream", "own.yaml", "--out", "run", "--set", "stream.batch_rows=200"),
    ],
    ids=lambda words: words[0],
)
def test_a_verb_builds_it(place: Path, words: tuple[str, ...]) -> None:
    code, text = called(place, *words)
    assert code == 0, text


@pytest.mark.parametrize(
    "words",
    [
        ("ablate", "own.yaml", "--grid", "grid.yaml", "--out", "run"),
        ("scale", "own.yaml", "--sweep", "sweep.yaml", "--out", "run"),
        ("plan", "own.yaml"),
    ],
    ids=lambda words: words[0],
)
def test_a_verb_of_several_runs_builds_it(place: Path, words: tuple[str, ...]) -> None:
    code, text = typed(*words)
    assert code == 0, text


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("students.light.kind=othermodels:MyNet", "no module 'othermodels' in {place} or among the installed packages"),
        ("students.light.kind=mymodels:MyNett", "mymodels has no 'MyNett'; did you mean 'MyNet'"),
        ("students.light.kind=mymodels:NoWidth", "unknown output width; give the class an integer `output_width`"),
        ("students.light.options={depht: 2}", "option 'depht' is not known; did you mean 'depth'"),
        ("students.light.options={depth: two}", "options.depth: it should be a valid integer; got 'two'"),
        ("students.light.kind=my models:MyNet", "no such model"),
    ],
)
def test_one_that_cannot_be_built_is_refused_in_one_line(place: Path, key: str, problem: str) -> None:
    code, text = typed("run", "own.yaml", "--out", "run", "--set", key)
    assert (code, text.count("\n")) == (2, 1) and problem.format(place=place) in text
    assert not (place / "run").exists()


def weights(run: Path) -> dict[str, bytes]:
    """Return the files of all checkpoints."""
    found = run.glob("models/*/*/model.safetensors")
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def test_whatever_a_network_raises_is_one_line_and_training_goes_on(place: Path) -> None:
    code, text = typed("run", "own.yaml", "--out", "run", "--set", "students.light.kind=mymodels:Alone")
    assert code == 0, text
    said = " ".join(text.split())
    assert "cannot be exported: it does not take a batch as a server makes it" in said and "nobody is there" in said


def test_one_that_cannot_be_served_is_told_before_training_and_trained_as_ever(place: Path) -> None:
    """Once for all its models; and nowhere where nobody wants to know."""
    counting = ("--set", "students.light.kind=mymodels:Counting")
    code, text = typed("run", "own.yaml", "--out", "told", *counting)
    lines = text.replace("\n  ", " ").splitlines()
    (warning,) = (
        number for number, line in enumerate(lines) if "cannot be exported: torch.export does not take" in line
    )
    assert code == 0 and "export_check: false" in lines[warning] and "light" in lines[warning]
    assert not any("light." in line for line in lines[:warning])
    code, text = typed("run", "own.yaml", "--out", "quiet", *counting, "--set", "export_check=false")
    assert code == 0 and "cannot be exported" not in text
    assert weights(place / "told") == weights(place / "quiet") != {}
