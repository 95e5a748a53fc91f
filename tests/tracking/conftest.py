"""Trackers as a fresh process meets them: no store named, none found down before, and time enough on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recdistill.app.run import run_pipeline
from recdistill.tracking import session
from tests.support.runs import tiny


def _freshen(patch: pytest.MonkeyPatch, place: Path) -> None:
    patch.chdir(place)  # where MLflow would put what it leaves lying about
    patch.setattr(session, "PATIENCE", 600.0)
    patch.setattr(session, "IMPATIENCE", 600.0)
    patch.setattr(session, "_warned", set())
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _freshen(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def followed_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a run that both trackers followed; tests read it, or copy it."""
    place = tmp_path_factory.mktemp("followed")
    with pytest.MonkeyPatch.context() as patch:
        _freshen(patch, place)
        run_pipeline(tiny("tracking=[mlflow, tensorboard]"), None, place / "run")
    yield place / "run"
