"""A folder of versions: the pointer, what is kept, the way back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recdistill.errors import UserError
from recdistill.serve.artefact import MANIFEST, current_version
from recdistill.serve.pointer import POINTER, Pointer, read_pointer, write_pointer
from recdistill.serve.versions import changing, roll_back, served, versions
from tests.support.artefacts import exported, version_of


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("versions")) / "1"


@pytest.fixture
def root(artefact: Path, tmp_path: Path) -> Path:
    """Return a folder of three versions, the third served after the first and the second."""
    for number in (1, 2, 3):
        version_of(artefact, tmp_path, number, model=f"model-{number}")
    write_pointer(tmp_path, Pointer(3, (1, 2)))
    return tmp_path


def test_a_pointer_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_pointer(tmp_path) is None
    write_pointer(tmp_path, Pointer(2, (4, 1)))
    assert read_pointer(tmp_path) == Pointer(2, (4, 1)) and Pointer(2, (4, 1)).to(5) == Pointer(5, (4, 1, 2))


@pytest.mark.parametrize("before", [[0], [True], ["1"], 1, None, [1.5]])
def test_what_was_served_before_are_numbers_from_1(tmp_path: Path, before: object) -> None:
    (tmp_path / POINTER).write_text(json.dumps({"version": 1, "before": before}))
    with pytest.raises(UserError, match="current.json: damaged; export again"):
        read_pointer(tmp_path)


def test_only_so_many_versions_are_remembered() -> None:
    pointer = Pointer(1)
    for number in range(2, 100):
        pointer = pointer.to(number)
    assert pointer.version == 99 and pointer.before == tuple(range(83, 99))


def test_a_folder_that_lost_its_pointer_names_a_version_to_serve(root: Path) -> None:
    (root / POINTER).unlink()
    with pytest.raises(UserError, match=f"{root}/current.json: missing; .* as {root}/3$"):
        current_version(root)
    assert current_version(root / "3") == root / "3"


def test_the_way_back_goes_by_what_was_served_and_not_by_the_number(root: Path) -> None:
    assert roll_back(root).model == "model-2"
    write_pointer(root, Pointer(3, (1,)))  # 2 was rolled back from, so it is not gone back to
    assert roll_back(root).model == "model-1" and served(root) == versions(root)[0]
    with pytest.raises(UserError, match="before version 1 none was served that could be served again"):
        roll_back(root)


def test_what_is_damaged_or_may_not_be_served_is_passed_over(root: Path) -> None:
    (root / "2" / "dense.onnx").unlink()
    assert roll_back(root).version == 1
    write_pointer(root, Pointer(3, (1, 2)))
    with pytest.raises(UserError, match="none was served that could be"):
        roll_back(root, lambda manifest: manifest.version != 1)
    assert read_pointer(root) == Pointer(3, (1, 2))


def test_a_version_that_cannot_be_read_is_none(root: Path) -> None:
    (root / "2" / MANIFEST).write_text("{")
    (root / "7").mkdir()
    assert [one.version for one in versions(root)] == [1, 3]


def test_one_process_at_a_time_changes_what_is_served(root: Path) -> None:
    with changing(root), pytest.raises(UserError, match="another process exports, promotes or rolls back there"):
        roll_back(root)


def test_nothing_is_served_where_nothing_ever_was(tmp_path: Path) -> None:
    assert served(tmp_path) is None and versions(tmp_path / "nowhere") == []
    with pytest.raises(UserError, match="nothing is served"):
        roll_back(tmp_path)
