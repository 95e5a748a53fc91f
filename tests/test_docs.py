"""What README and docs say is run: Python and shell snippets, experiment files and links."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import recdistill
from recdistill.cli.app import app
from recdistill.config import base, data, experiment, models, stream
from recdistill.config.grid import load_grid
from recdistill.config.load import load_file, load_text
from recdistill.config.sweep import load_sweep
from recdistill.errors import UserError
from recdistill.models.factory import BACKBONES
from recdistill.tables import dead_letters, verdicts
from tests.support.paths import ROOT
from tests.support.programs import needs

DOCS = ROOT / "docs"
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*TOP, *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^(<!-- sketch -->\n)?```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PRIVATE = re.compile(r"\b(said|heard|hears?|told|beside)\b", re.IGNORECASE)
LOADED = re.compile(r"""(?:src=|<link[^>]+rel="?stylesheet"?[^>]+href=)"?(https?://[^"\s>]+)""")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")

MODELS = [
    kind
    for module in (base, data, experiment, models, stream)
    for name in module.__all__
    if hasattr(kind := getattr(module, name), "model_fields")
]

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def snippets(page: Path, language: str, sketches: bool = False) -> list[str]:
    """Return the page's fenced blocks of one language; those marked as sketches are not run."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for mark, kind, code in found if kind == language and bool(mark) == sketches]


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


SETUP = """
import numpy as np, polars as pl, torch
draw = np.random.default_rng(0)
columns = {"ts": 1_700_000_000 + np.arange(2_000), "clicked": draw.integers(0, 2, 2_000)}
columns |= {"user_id": draw.integers(0, 30, 2_000), "item_id": draw.integers(0, 30, 2_000)}
frame = pl.DataFrame(columns).with_columns(ts=pl.from_epoch("ts"))
frame.write_parquet("impressions.parquet")
new_rows = frame.tail(3).drop("clicked")
"""


def test_the_notebook_of_the_readme_runs(tmp_path: Path) -> None:
    """On a small log, with the student of the tutorial, which is checked first."""
    network = snippets(DOCS / "tutorials" / "own-student.md", "python", sketches=True)[0]
    run_script("\n".join([SETUP, network, *snippets(ROOT / "README.md", "python", sketches=True)]), tmp_path)


def run_script(code: str, folder: Path) -> None:
    """Run Python in a process of its own: a model that it defines belongs to `__main__`, as in a notebook."""
    (folder / "script.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.glob("runs/*/summary.json"))


@pytest.mark.long
@pytest.mark.parametrize("name", ["demo", "bring-your-own"])
def test_notebooks_run(name: str, tmp_path: Path) -> None:
    text = (DOCS / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    run_script("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"), tmp_path)


@pages
def test_python_sketches_are_python(page: Path) -> None:
    for code in snippets(page, "python", sketches=True):
        ast.parse(code)


@pages
def test_experiments_are_valid(page: Path) -> None:
    for code in snippets(page, "yaml"):
        if code.startswith("name:"):
            load_text(code, where=page.name)


def test_every_key_stands_in_its_page_with_its_default() -> None:
    """The page's experiment spells out the defaults: it equals the shortest one."""
    (text,) = snippets(DOCS / "reference" / "experiment-file.md", "yaml")
    assert load_text(text) == load_text("{name: my-experiment, data: {}}")
    keys = {field.alias or key for model in MODELS for key, field in model.model_fields.items()}
    unnamed = {key for key in keys if not re.search(rf"\b{key}\b", text)}
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
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(words[1:]) <= set(targets), line
        if words[:1] in ([".venv/bin/python"], ["python"]) and words[1].startswith(("benchmarks/", "examples/")):
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


def test_the_page_of_the_command_line_is_todays(monkeypatch: pytest.MonkeyPatch) -> None:
    made = runpy.run_path(str(DOCS / "cli_reference.py"))["page"]()
    assert (DOCS / "reference" / "cli.md").read_text(encoding="utf-8") == made, "run: make docs"


def test_every_kind_of_model_and_option_stands_in_the_page() -> None:
    text = (DOCS / "reference" / "models.md").read_text(encoding="utf-8")
    given = {"self", "width", "fields", "slots", "actions", "length", "tables", "extras"}
    names = {name for kind in BACKBONES.values() for name in inspect.signature(kind).parameters} - given
    assert {name for name in (*BACKBONES, *names) if f"`{name}`" not in text} == set()


def test_every_public_name_stands_in_the_reference_where_it_is_defined() -> None:
    named = re.findall(r"^::: (\S+)\.(\w+)$", (DOCS / "reference" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    found = {getattr(importlib.import_module(module), name) for module, name in named}
    assert {name for name in recdistill.__all__ if getattr(recdistill, name) not in found} == set()


def test_every_column_of_a_table_stands_in_the_page() -> None:
    text = (DOCS / "reference" / "tables.md").read_text(encoding="utf-8")
    columns = {*dead_letters.COLUMNS, *verdicts.COLUMNS, "kind", "model", "version"}
    assert {name for name in columns if f"`{name}`" not in text} == set()


def test_every_page_is_in_the_navigation() -> None:
    shown = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert shown == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md", "cli.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_old_private_words_stay_away(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    assert [f"{number}: {line}" for number, line in lines if PRIVATE.search(line)] == []


@needs("mkdocs")
def test_the_site_builds_and_its_links_and_anchors_lead_somewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    loaded = [found for page in pages for found in LOADED.findall(page.read_text(encoding="utf-8"))]
    assert len(pages) > 30 and loaded == []  # nothing comes from the network


def test_a_wrong_experiment_is_found() -> None:
    with pytest.raises(UserError, match="did you mean 'students'"):
        load_text("name: x\ndata: {reader: simulator}\nstudent: {}\n")


def test_a_sketch_is_told_from_a_snippet() -> None:
    assert is_sketch(ast.parse("f(name=...)")) and not is_sketch(ast.parse("f(name=1)"))
