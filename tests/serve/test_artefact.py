"""An artefact's folder that someone else wrote: refused in one line, whatever stands in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recdistill.errors import UserError
from recdistill.serve.artefact import Manifest, current_version, digest
from recdistill.serve.pointer import POINTER, Pointer, write_pointer
from recdistill.serve.scorer import Scorer
from recdistill.typing import Array
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
    ("name", "value", "line"),
    [
        ("files", [], "manifest.json: damaged"),
        ("files", {}, "manifest.json: files: context.hash.npy is missing there"),
        ("files", {"../x": "0"}, "manifest.json: files: names and their checksums"),
        ("files", {"/etc/hostname": "0"}, "manifest.json: files: names and their checksums"),
        ("version", "x", "manifest.json: damaged"),
        ("version", True, "manifest.json: damaged"),
        ("version", 0, "manifest.json: version: not what an export writes"),
        ("actions", [1], "manifest.json: actions"),
        ("actions", [], "manifest.json: history"),
        ("tasks", None, "manifest.json: damaged"),
        ("tasks", [], "manifest.json: tasks"),
        ("tasks", ["a", "a"], "manifest.json: tasks"),
        ("history", -1, "manifest.json: history"),
        ("history", 10**9, "manifest.json: history"),
        ("fields", -1, "manifest.json: fields"),
        ("numbers", ["nope"], "manifest.json: numbers"),
        ("numeric_as", "nope", "manifest.json: numeric_as"),
        ("look_ups", [], "table_0.npy|cannot score a request"),
        ("look_ups", [[10**12, "item", 8]], "manifest.json: look_ups"),
        ("look_ups", [[7, "item", 4]], "files: table_7.npy is missing there"),
        ("look_ups", [[0, "nope", 4]], "manifest.json: look_ups"),
        ("look_ups", [[0, "item", 5]], r"table_0.npy: float32 \[\d+, 5\] was expected"),
        ("look_ups", [[0, "item"]], "manifest.json: damaged"),
        ("log_odds_offset", ["x"], "manifest.json: log_odds_offset"),
        ("log_odds_offset", [float("nan"), 0.0], "manifest.json: log_odds_offset"),
        ("regression", {"a": 1}, "manifest.json: damaged|regression"),
        ("regression", {"click": ["log", 0.0]}, "manifest.json: regression"),
        ("schema", {}, "manifest.json: damaged"),
    ],
)
def test_a_manifest_whose_checksum_is_right_may_still_say_nonsense(
    versions: Path, tmp_path: Path, name: str, value: Any, line: str
) -> None:
    folder = tmp_path / "1"
    shutil.copytree(current_version(versions), folder)
    changed(folder, **{name: value})
    with pytest.raises(UserError, match=f"({line}).*; export again"):
        Scorer.open(folder)


def test_a_letter_that_changed_is_found_where_the_values_stay(versions: Path, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(current_version(versions), folder)
    changed(folder, parity=1e-8)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("1e-08", "1E-08"))
    with pytest.raises(UserError, match="manifest.json: damaged; export again"):
        Scorer.open(folder)


def column(values: Any, kind: str) -> Callable[[Array], Array]:
    """Return what replaces a column by these values, whatever it was."""
    return lambda _: np.array(values, kind)


@pytest.mark.parametrize(
    ("name", "made", "line"),
    [
        ("table_0", lambda old: old[:-1], "table_0.npy: float32"),
        ("table_0", lambda old: old.astype("float64"), "table_0.npy: float32"),
        ("table_0", lambda old: old[:, 0], "table_0.npy: float32"),
        ("items.place", lambda old: old + 1, "items.place.npy: int32"),
        ("items.place", lambda old: old * 0, "items.place.npy: int32"),
        ("items.place", lambda old: old[:-1], "items.place.npy: int32"),
        ("items.place", lambda old: old.astype("int64"), "items.place.npy: int32"),
        ("users.hash", lambda old: old[::-1], "users.hash.npy: uint64, ascending"),
        ("users.hash", lambda old: old.astype("int64"), "users.hash.npy: uint64, ascending"),
        ("context.key", lambda old: old[::-1], "context.key.npy: int64"),
        ("context.key", lambda old: old + 1, "context.key.npy: from 0 to"),
        ("context.text", lambda old: old[:-1], "context.key.npy: from 0 to"),
        ("user_numbers", lambda old: old[:-1], "user_numbers.npy: float32"),
        ("item_numbers", column([[0, 0]], "int32"), "item_numbers.npy: float32"),
        ("item_numbers", lambda old: old[:, :1], "item_numbers.npy: float32"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_by_its_name(
    versions: Path, tmp_path: Path, name: str, made: Callable[[Array], Array], line: str
) -> None:
    folder = tmp_path / "1"
    shutil.copytree(current_version(versions), folder)
    path = folder / f"{name}.npy"
    np.save(path, made(np.load(path)))
    changed(folder, files={**Manifest.read(folder).files, path.name: digest(path)})
    with pytest.raises(UserError, match=f"{line}.*; export again"):
        Scorer.open(folder)


def test_a_column_that_the_manifest_does_not_name_is_refused(versions: Path, tmp_path: Path) -> None:
    """Ids would be taken for text because of it."""
    folder = tmp_path / "1"
    shutil.copytree(current_version(versions), folder)
    np.save(folder / "users.text.npy", np.zeros(1, np.uint8))
    with pytest.raises(UserError, match=r"users.text.npy: the manifest does not name it; export again"):
        Scorer.open(folder)


def test_a_version_that_lies_under_another_number_is_refused(versions: Path, tmp_path: Path) -> None:
    shutil.copytree(current_version(versions), tmp_path / "2")
    write_pointer(tmp_path, Pointer(2))
    with pytest.raises(UserError, match=r"manifest.json: of version 1; export again"):
        Scorer.open(tmp_path)


def test_a_graph_of_another_artefact_is_refused(versions: Path, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(current_version(versions), folder)
    (folder / "dense.onnx").write_bytes(b"no graph")
    changed(folder, files={**Manifest.read(folder).files, "dense.onnx": digest(folder / "dense.onnx")})
    with pytest.raises(UserError, match=r"dense.onnx: onnxruntime does not take it; export again"):
        Scorer.open(folder)
