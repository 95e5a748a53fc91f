"""Names that would become a folder, a writer's id or a label, and links in a run's folder: refused before they are."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from recdistill.cli import app as cli
from recdistill.config.base import shortened, slug
from recdistill.config.grid import load_grid
from recdistill.config.load import load_text
from recdistill.config.sweep import load_sweep
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.tables.delta.files import Part
from tests.support.runs import TINY, finish, tiny

HOSTILE = [
    "../../../../escaped",
    "/tmp/escaped",
    "a/b",
    "..",
    ".hidden",
    "-option",
    "",
    " ",
    "a b",
    "<b>x</b>",
    'x"} 1',
    "[/red]",
    "line\nend",
    "\x1b[2J",
    "été",
    "a\\b",
    "x" * 65,
]


def tree_of(place: Path) -> list[str]:
    """Return everything that lies below a folder."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


def experiment(**changes: object) -> str:
    """Return the text of a small experiment with groups of keys replaced."""
    return yaml.safe_dump({**yaml.safe_load(TINY), **changes})


COLUMNS = {"tasks": {"click": "label"}}
PLACES: dict[str, Callable[[str], dict[str, object]]] = {
    "name": lambda name: {"name": name},
    "student": lambda name: {"students": {name: {}}},
    "teacher": lambda name: {"teachers": {name: {}}},
    "task": lambda name: {"data": {"columns": {"tasks": {name: "label"}}}},
    "label time": lambda name: {"data": {"columns": {**COLUMNS, "label_times": {name: "when"}}}},
    "stream": lambda name: {"stream": {"source": {"stream": name}}},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("change", PLACES.values(), ids=PLACES.keys())
def test_an_experiment_takes_no_such_name(change: Callable[[str], dict[str, object]], name: str) -> None:
    with pytest.raises(UserError, match="config: '"):
        load_text(experiment(**change(name)))


@pytest.mark.parametrize("name", HOSTILE)
def test_grids_and_sweeps_take_no_such_name(name: str, tmp_path: Path) -> None:
    config, other = tmp_path / "tiny.yaml", tmp_path / "other.yaml"
    config.write_text(TINY, encoding="utf-8")
    other.write_text(yaml.safe_dump({"methods": {name: {"width": 8}}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"other\.yaml: 'methods"):
        load_grid(config, other)
    other.write_text(yaml.safe_dump({"axes": {name: {"width": [4, 8]}}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"other\.yaml: 'axes"):
        load_sweep(config, other, [], None)


def test_names_made_of_values_are_names(tmp_path: Path) -> None:
    config, grid = tmp_path / "tiny.yaml", tmp_path / "grid.yaml"
    config.write_text(TINY, encoding="utf-8")
    values = ["../../x", "été" * 40, *range(3)]
    grid.write_text(yaml.safe_dump({"grid": {"options.activation": values, "options.b": ["y" * 40]}}), encoding="utf-8")
    methods = load_grid(config, grid)[1]
    assert len(methods) == 5 and all(len(name) <= 64 and name.isascii() and "/" not in name for name in methods)
    assert slug("../é b") == "..___b" and shortened("x" * 64) == "x" * 64
    assert shortened("x" * 65) != shortened("x" * 66) and len(shortened("x" * 99)) == 64


def test_a_student_has_no_teachers_name() -> None:
    with pytest.raises(UserError, match="names that begin with teacher- are of teachers"):
        load_text(experiment(students={"teacher-two": {}}))


def test_seeds_are_small_whole_numbers() -> None:
    for seed in (-1, 2**32, 10**15):
        with pytest.raises(UserError, match=r"evaluate\.seeds\.0"):
            load_text(experiment(evaluate={"seeds": [seed]}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with a trained teacher."""
    root = tmp_path_factory.mktemp("trained") / "run"
    finish(root, tiny(), "teacher")
    return root


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that calls the command line, checks that it is refused in one line, and returns the line."""

    def call(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["recdistill", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        err = capsys.readouterr().err
        assert caught.value.code == 2 and err.startswith("recdistill: ") and err.count("\n") == 1, err
        assert err[:-1].isprintable() and "unexpected" not in err
        return err

    return call


VERBS: dict[str, Callable[[Path, str], list[object]]] = {
    "train": lambda run, name: ["train", run, f"--model={name}"],
    "lineage": lambda run, name: ["lineage", run, "--", name],
    "promote": lambda run, name: ["promote", run, "--", name],
    "promote a teacher": lambda run, name: ["promote", run, f"teacher-{name}"],
    "revoke": lambda run, name: ["revoke", run, "0", "--reason=x", f"--model={name}"],
    "release": lambda run, name: ["release", run, "0", f"--model={name}"],
    "role": lambda run, name: ["stream", run / "tiny.yaml", "--out", run, f"--role={name}"],
    "axis": lambda run, name: ["scale", run / "tiny.yaml", "--out", run, f"--axis={name}"],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
def test_no_verb_takes_such_a_name(
    verb: Callable[[Path, str], list[object]], name: str, trained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    place = tmp_path / "deep" / "down"
    run = shutil.copytree(trained, place / "run")
    (run / "tiny.yaml").write_text(TINY, encoding="utf-8")
    before = tree_of(tmp_path)
    refused(*verb(run, name))
    assert tree_of(tmp_path) == before and not Path("/tmp/escaped").exists()


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "x" * 65])
def test_no_folder_has_such_a_models_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no name of a model"):
        RunFolder(tmp_path).model(name)


LINKED = [
    "lock",
    "run.json",
    "tables",
    "models",
    "models/teacher",
    "models/teacher/00000000",
    "models/teacher/00000000/state.json",
    "predictions",
    "predictions/_delta_log",
    "predictions/model=teacher",
    "store",
    "report.html",
    "logs",
]


@pytest.mark.parametrize("verb", ["run", "train", "evaluate", "inspect", "compact", "stream"])
@pytest.mark.parametrize("linked", LINKED)
def test_a_link_in_a_run_is_refused(
    linked: str, verb: str, trained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    run, other = shutil.copytree(trained, tmp_path / "run"), tmp_path / "elsewhere"
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    if linked.endswith("00000000") or "/00000000/" in linked:  # whichever is there
        block = sorted(path.name for path in (run / "models" / "teacher").iterdir() if path.name.isdigit())[0]
        linked = linked.replace("00000000", block)
    if (run / linked).exists():
        shutil.move(run / linked, other)
    (run / linked).symlink_to(other)
    before = tree_of(other) if other.is_dir() else other.exists() and other.read_bytes()
    words = [tmp_path / "tiny.yaml", "--out", run] if verb in ("run", "stream") else [run]
    line = refused(verb, *words)
    if linked != "run.json" or other.exists():
        assert f"{run / linked}: a link" in line
    assert (tree_of(other) if other.is_dir() else other.exists() and other.read_bytes()) == before


def test_a_run_may_be_reached_by_a_link(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(trained)
    assert RunFolder(tmp_path / "run").experiment().name == "tiny"


def test_a_pipe_in_a_run_is_refused_and_nobody_waits_for_it(
    trained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "lock").unlink()
    os.mkfifo(run / "lock")
    assert "no file at all" in refused("train", run)


@pytest.mark.parametrize("path", ["../../x.parquet", "/etc/passwd", "a/../../x.parquet", "s3://x/y.parquet"])
def test_a_table_names_no_file_outside_of_it(path: str) -> None:
    with pytest.raises(UserError, match="lies outside of the table"):
        Part(path, {}, 1, 0, None, None)


def test_paths_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets and colons in a path are no markup."""
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    monkeypatch.setattr(
        sys, "argv", ["recdistill", "ingest", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / ":smile:[" / "red]")]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code and ":smile:[/red]/tables" in capsys.readouterr().out.replace("\n", "")


def test_a_log_shows_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from recdistill.stream.event_log import Journal

    Journal(tmp_path, "ingest").write("dead letters", reason="\x1b[2J\nforged")
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "\x1b" not in shown
    assert json.loads((tmp_path / "ingest.jsonl").read_text())["reason"] == "\x1b[2J\nforged"
