"""What README and docs say is run: Python and shell snippets, experiment files and links."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from recdistill.cli.app import app
from recdistill.config import base, data, experiment, models, stream
from recdistill.config.grid import load_grid
from recdistill.config.load import load_file, load_text
from recdistill.config.sweep import load_sweep
from recdistill.errors import UserError
from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")

MODELS = [
    kind
    for module in (base, data, experiment, models, stream)
    for name in module.__all__
    if hasattr(kind := getattr(module, name), "model_fields")
]

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def snippets(page: Path, language: str) -> list[str]:
    """Return the page's fenced blocks of one language."""
    return [code for found, code in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def is_sketch(tree: ast.Module) -> bool:
    """Return whether a snippet leaves something out as `...`: then only its syntax and imports are checked."""
    return any(isinstance(node, ast.Constant) and node.value is ... for node in ast.walk(tree))


@pages
def test_python_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": page.stem}
    for number, code in enumerate(snippets(page, "python")):
        tree = ast.parse(code)
        if is_sketch(tree):
            tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(tree, f"{page.name}, snippet {number}", "exec"), space)


@pages
def test_experiments_are_valid(page: Path) -> None:
    for code in snippets(page, "yaml"):
        if code.startswith("name:"):
            load_text(code, where=page.name)


def test_every_key_stands_in_its_page_with_its_default() -> None:
    """The page's experiment spells out the defaults: it equals the shortest one."""
    (text,) = snippets(ROOT / "docs" / "experiment-file.md", "yaml")
    assert load_text(text) == load_text("{name: my-experiment, data: {}}")
    unnamed = {key for model in MODELS for key in model.model_fields if not re.search(rf"\b{key}\b", text)}
    assert unnamed == set()


@pages
def test_commands_exist(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in "\n".join(snippets(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["recdistill"] and words[1] != "--help":
            known = {option for parameter in commands[words[1]].params for option in parameter.opts} | {"--help"}
            assert {word for word in words[2:] if word.startswith("--")} <= known, line
        if words[:1] == ["make"]:
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(words[1:]) <= set(targets), line
        if words[:1] == [".venv/bin/python"] and words[1].startswith("benchmarks/"):
            assert (ROOT / words[1]).exists(), line


@pages
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    assert load_file(path).name == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "grids").glob("*.yaml")), ids=lambda path: path.name)
def test_grids_fit_the_experiment_that_they_name(path: Path) -> None:
    config = re.search(r"recdistill ablate (examples/\S+\.yaml)", path.read_text(encoding="utf-8"))
    assert config and len(load_grid(ROOT / config[1], path)[1]) > 1


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "sweeps").glob("*.yaml")), ids=lambda path: path.name)
def test_sweeps_fit_the_experiment_that_they_name(path: Path) -> None:
    config = re.search(r"recdistill scale (examples/\S+\.yaml)", path.read_text(encoding="utf-8"))
    assert config and len(load_sweep(ROOT / config[1], path, [], None)[1]) > 1


def test_a_wrong_experiment_is_found() -> None:
    with pytest.raises(UserError, match="did you mean 'students'"):
        load_text("name: x\ndata: {reader: simulator}\nstudent: {}\n")


def test_a_sketch_is_told_from_a_snippet() -> None:
    assert is_sketch(ast.parse("f(name=...)")) and not is_sketch(ast.parse("f(name=1)"))
