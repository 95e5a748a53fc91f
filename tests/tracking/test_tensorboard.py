"""TensorBoard's event files, read back with its own EventAccumulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recdistill.tracking import tensorboard
from recdistill.tracking.update import Point, Update


def read(root: Path, model: str) -> EventAccumulator:
    """Return what the event files of one model of a run's folder hold."""
    found = EventAccumulator(str(root / "tracking" / "tensorboard" / model))
    return found.Reload()


def points(root: Path, model: str, name: str) -> list[tuple[int, float]]:
    """Return (step, value) of one curve."""
    return [(event.step, round(event.value, 4)) for event in read(root, model).Scalars(name)]


def logged(root: Path, *updates: Update) -> None:
    """Write updates in one session."""
    events = tensorboard.open_run(root, "tiny")
    for update in updates:
        events.log(update)
    events.close("FINISHED")


def at(model: str, *steps: int, value: float = 1.0) -> Update:
    """Return an update with a point per step."""
    return Update(points=[Point(model, "progressive_ne", step, value, 10.0) for step in steps])


def test_a_run_shows_a_curve_per_model_its_scores_its_keys_and_its_card(followed_run: Path) -> None:
    root = followed_run
    for model, rows in (("teacher", 1100), ("light.raw.s0", 350), ("light.distilled.s0", 350)):
        steps = [step for step, _ in points(root, model, "progressive_ne")]
        assert steps == sorted(steps) and steps[-1] == rows
    assert points(root, "light.distilled.s0", "coverage")[-1] == (350, 1.0)
    assert len(points(root, "light.raw", "auc")) == len(points(root, "teacher", "finish/auc")) == 1
    texts = {
        name.removesuffix("/text_summary"): b"".join(
            read(root, "run").Tensors(name)[0].tensor_proto.string_val
        ).decode()
        for name in read(root, "run").Tags()["tensors"]
    }
    assert set(texts) == {"parameters", "lineage", "model-card.md"}
    assert "| teacher.width | 4 |" in texts["parameters"] and "prequential signals of teacher" in texts["lineage"]
    assert texts["model-card.md"].lstrip().startswith("# Model card: tiny")


def test_a_session_that_goes_on_from_a_checkpoint_voids_the_steps_that_it_repeats(tmp_path: Path) -> None:
    scores = Update(points=[Point("teacher", "auc", 0, 0.7, 10.0)])
    logged(tmp_path, at("teacher", 100, 200, 300), scores)
    logged(tmp_path, at("teacher", 200, 300, 400, value=2.0))
    assert points(tmp_path, "teacher", "progressive_ne") == [(100, 1.0), (200, 2.0), (300, 2.0), (400, 2.0)]
    assert points(tmp_path, "teacher", "auc") == [(0, 0.7)]


def test_hundreds_of_models_take_few_files_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "MAX_OPEN", 2)
    events = tensorboard.open_run(tmp_path, "tiny")
    for step in (100, 200):
        for model in ("a", "b", "c", "d"):
            events.log(at(model, step))
            assert len(events._open) <= 2
    events.close("FINISHED")
    assert all(points(tmp_path, model, "progressive_ne") == [(100, 1.0), (200, 1.0)] for model in "abcd")


def test_hostile_names_stay_inside_the_folder_and_apart(tmp_path: Path) -> None:
    hostile = ["../../up", "a<b", "a>b", "..", ".", "/etc/x", "é" * 400, "a\x00b"]
    logged(tmp_path / "run", *(at(name, 1) for name in hostile))
    folders = list((tmp_path / "run" / "tracking" / "tensorboard").iterdir())
    assert len(folders) == len(hostile) and all(any(folder.iterdir()) for folder in folders)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
