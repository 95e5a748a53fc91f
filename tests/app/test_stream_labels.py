"""A stream of values, soft labels and weights is learned and scored as any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.app.stream import run_alone, score_stage
from recdistill.config.load import load_text
from recdistill.evaluate.summary import load
from recdistill.runs.folder import RunFolder
from recdistill.tables.predictions import PredictionLog
from tests.data.readers.test_label_kinds import rows

CONFIG = """
name: t
data: {{path: log.csv, columns: {{weight: weight, tasks: {{{tasks}}}}}}}
teacher: {{kind: pooled-mlp, width: 4, history: 10, batch: 100}}
students: {{light: {{kind: pooled-mlp, width: 4, history: 5, batch: 100}}}}
evaluate: {{seeds: [0], bootstrap: 20, start: 0.5}}
stream: {{batch_rows: 200, commit_rows: 100, checkpoint_rows: 100, health: {{rows: 100}}}}
checkpoint_rows: 200
"""
TASKS = {
    "watch": "watch: {column: seconds, regression: log}, near: {column: score, soft: true}",
    "near": "near: {column: score, soft: true}, watch: {column: seconds, regression: huber, scale: 20}",
}
ROLES = ("batch", "publish", "ingest", "teacher", "gate", "light.raw.s0", "light.distilled.s0")


@pytest.mark.parametrize("first", TASKS)
def test_a_stream_learns_and_scores_them(first: str, tmp_path: Path) -> None:
    rows().write_csv(tmp_path / "log.csv")
    experiment = load_text(CONFIG.format(tasks=TASKS[first]))
    root = tmp_path / "run"
    for role in ROLES:
        run_alone(experiment, tmp_path, root, role)
    folder = RunFolder(root)
    predictions = PredictionLog.open(folder.predictions).scan().collect()
    assert len(predictions.filter(model="light.distilled.s0")) == 600
    assert np.isfinite(predictions.select(pl.col("^logit_.*$")).to_numpy()).all()
    score_stage(folder, experiment)
    summary = load(root / "summary.json")
    assert summary.models.raw.is_regression == (first == "watch")
    assert summary.rows == int((rows()["weight"][200:] > 0).sum())
