"""An artefact's folder that someone else wrote: refused in one line, whatever stands in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from recdistill.errors import UserError
from recdistill.serve.artefact import current_version
from recdistill.serve.pointer import POINTER
from recdistill.serve.scorer import Scorer
from tests.support.artefacts import changed, exported


@pytest.fixture(scope="module", name="versions")
def _versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("artefact"))


@pytest.mark.parametrize(
    "version", ['"../x"', "0", "-1", "true", "1.5", '"1"', "null", "1e999", "NaN", "1" * 5000, "[" * 100_000]
)
def test_a_pointer_names_a_number_from_1(tmp_path: Path, version: str) -> None:
    (tmp_path / POINTER).write_text(f'{{"version": {version}, "before": []}}')
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
    versions: Path, tmp_path: Path, name: str, value: Any
) -> None:
    folder = tmp_path / "1"
    shutil.copytree(current_version(versions), folder)
    changed(folder, **{name: value})
    with pytest.raises(UserError, match="export again"):
        Scorer.open(folder)
