"""An artefact's folder that someone else wrote: refused in one line, whatever stands in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from recdistill.api.run import Run
from recdistill.errors import UserError
from recdistill.serve.artefact import MANIFEST, POINTER, _checksum, current_version
from recdistill.serve.scorer import Scorer
from tests.support.runs import finish, tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artefact")
    finish(root / "run", tiny(), "teacher")
    Run(root / "run").model("teacher").export(root / "versions")
    return root / "versions"


@pytest.mark.parametrize(
    "version", ['"../x"', "0", "-1", "true", "1.5", '"1"', "null", "1e999", "NaN", "1" * 5000, "[" * 100_000]
)
def test_a_pointer_names_a_number_from_1(tmp_path: Path, version: str) -> None:
    (tmp_path / POINTER).write_text(f'{{"version": {version}}}')
    with pytest.raises(UserError, match="current.json: damaged; export again"):
        current_version(tmp_path)


def test_a_pointer_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / POINTER).mkdir()
    with pytest.raises(UserError, match="current.json: damaged; export again"):
        current_version(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("files", []),
        ("files", {"../x": "0"}),
        ("files", {"/etc/hostname": "0"}),
        ("version", "x"),
        ("version", True),
        ("actions", [1]),
        ("tasks", None),
        ("tasks", []),
        ("history", -1),
        ("look_ups", []),
        ("look_ups", [[10**12, "item", 8]]),
        ("log_odds_offset", ["x"]),
        ("regression", {"a": 1}),
        ("schema", {}),
    ],
)
def test_a_manifest_whose_checksum_is_right_may_still_say_nonsense(
    exported: Path, tmp_path: Path, name: str, value: Any
) -> None:
    folder = tmp_path / "1"
    shutil.copytree(current_version(exported), folder)
    tree = json.loads((folder / MANIFEST).read_text())
    tree.pop("checksum")
    tree[name] = value
    (folder / MANIFEST).write_text(json.dumps({**tree, "checksum": _checksum(tree)}))
    with pytest.raises(UserError, match="export again"):
        Scorer.open(folder)
