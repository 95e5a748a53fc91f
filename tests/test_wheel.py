"""What is built and sent out: it holds every file, and runs where nothing but its dependencies is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT

pytestmark = pytest.mark.long
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "recdistill")
TINY = ("data.options.rows=900", "evaluate.seeds=[0]", "evaluate.bootstrap=20", "teacher.history=20")
BUILD = "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"


def run(*words: object, cwd: Path, **environment: str) -> str:
    """Return what a command printed; fail with its errors where it failed."""
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel and the sdist, built from a copy of the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        make = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        make(ROOT / name, copy / name)
    run(sys.executable, "-c", BUILD, cwd=copy)
    return copy / "dist"


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds what recdistill depends on, without its extras, and nothing else."""
    place = tmp_path_factory.mktemp("dependencies")
    for name in needed("recdistill") - {"recdistill"}:
        found = metadata.distribution(name)
        for top in {Path(str(file)).parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (place / top).exists():
                (place / top).symlink_to(str(found.locate_file(top)))
    return place


def needed(name: str) -> set[str]:
    """Return the names of a distribution and of all that it depends on, as they are installed."""
    found, left = set[str](), [name]
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name not in found:
            found.add(name)
            left += [each.name for each in required(name)]
    return found


def required(name: str) -> Iterator[Requirement]:
    """Give what a distribution requires here, without extras."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def test_the_wheel_holds_every_file_of_the_package(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "recdistill").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {str(path.relative_to(ROOT)) for path in files}
    assert "recdistill/py.typed" in held and "recdistill/report/page.html" in held


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_it_runs_where_only_its_dependencies_are(built: Path, dependencies: Path, tmp_path: Path, kind: str) -> None:
    """Outside the checkout, in an interpreter that does not look where everything else is installed (-S)."""
    (package,) = built.glob(kind)
    target = tmp_path / "installed"
    pip = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target, package)
    run(sys.executable, "-m", "pip", *pip, cwd=tmp_path)
    where, command = f"{target}:{dependencies}", (sys.executable, "-S", target / "bin" / "recdistill")
    code = "import recdistill; print(recdistill.__file__)"
    assert run(sys.executable, "-S", "-c", code, cwd=tmp_path, PYTHONPATH=where).startswith(str(target))
    assert (
        run(*command, "--version", cwd=tmp_path, PYTHONPATH=where) == f"recdistill {metadata.version('recdistill')}\n"
    )
    sets = [word for key in TINY for word in ("--set", key)]
    run(*command, "demo", *sets, cwd=tmp_path, PYTHONPATH=where)
    assert (tmp_path / "runs" / "demo" / "report.html").exists()
    for extra in ("nats", "confluent_kafka", "lightgbm", "fastapi", "sklearn", "pytest"):
        absent = f"import importlib.util as u; assert u.find_spec({extra!r}) is None"
        run(sys.executable, "-S", "-c", absent, cwd=tmp_path, PYTHONPATH=where)
