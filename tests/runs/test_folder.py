"""What a run forgets when its log has grown, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recdistill.config.load import load_text
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder

EXPERIMENT = load_text(
    "{name: x, data: {reader: simulator}, teacher: {kind: din, width: 8}, students: {light: {kind: din, width: 4}}}"
)


def test_what_is_served_stays_when_models_are_forgotten(tmp_path: Path) -> None:
    for name in ("models", "predictions", "serving", "store", "tables"):
        (tmp_path / name).mkdir()
    for name in ("frame.parquet", "run.json", "summary.json"):
        (tmp_path / name).touch()
    RunFolder(tmp_path).forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame.parquet", "run.json", "serving", "tables"]


@pytest.fixture
def older(tmp_path: Path) -> RunFolder:
    """A run of a version that knew neither `tables` of a model nor `controls`."""
    folder = RunFolder(tmp_path / "run")
    with folder.claimed(EXPERIMENT, ""):
        (folder.root / "tables").mkdir()
    about = json.loads((folder.root / "run.json").read_text())
    del about["experiment"]["students"]["light"]["tables"], about["experiment"]["controls"]
    (folder.root / "run.json").write_text(json.dumps(about))
    return folder


def test_a_key_that_an_older_version_did_not_know_has_its_default(older: RunFolder) -> None:
    older.belongs(EXPERIMENT, "")
    with older.claimed(EXPERIMENT, ""):
        assert "controls" in json.loads((older.root / "run.json").read_text())["experiment"]


def test_another_value_of_such_a_key_is_another_run(older: RunFolder) -> None:
    light = EXPERIMENT.students["light"].model_copy(update={"tables": "device"})
    other = EXPERIMENT.model_copy(update={"students": {"light": light}})
    with pytest.raises(UserError, match="students.light.tables: 'host' there, 'device' now"), older.claimed(other, ""):
        pass


def test_a_key_that_only_another_version_knows_is_another_run(older: RunFolder) -> None:
    about = json.loads((older.root / "run.json").read_text())
    about["experiment"]["students"]["light"]["colour"] = "red"
    (older.root / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="colour: 'red' there, None now"), older.claimed(EXPERIMENT, ""):
        pass
