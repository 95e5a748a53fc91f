"""What a run forgets when its log has grown, and what it keeps."""

from __future__ import annotations

from pathlib import Path

from recdistill.runs.folder import RunFolder


def test_what_is_served_stays_when_models_are_forgotten(tmp_path: Path) -> None:
    for name in ("models", "predictions", "serving", "store", "tables"):
        (tmp_path / name).mkdir()
    for name in ("frame.parquet", "run.json", "summary.json"):
        (tmp_path / name).touch()
    RunFolder(tmp_path).forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame.parquet", "run.json", "serving", "tables"]
