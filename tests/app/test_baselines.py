"""A run's baselines: measured once, and again where the log or the window is another."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.app import baselines as module
from recdistill.app.baselines import baselines_of
from tests.support.runs import ingested, tiny


def test_they_are_measured_once_per_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tiny()
    folder = ingested(tmp_path / "run", experiment)
    found = baselines_of(folder, experiment)
    assert found["counts"].auc is not None and (folder.root / "baselines.json").exists()
    asked: list[float] = []
    measure = module.baselines

    def watched(events, version, config, clock):  # type: ignore[no-untyped-def]
        asked.append(config.start)
        return measure(events, version, config, clock)

    monkeypatch.setattr(module, "baselines", watched)
    assert baselines_of(folder, experiment) == found and not asked
    later = tiny("evaluate.start=0.75")
    assert baselines_of(folder, later) != found and asked == [0.75]
