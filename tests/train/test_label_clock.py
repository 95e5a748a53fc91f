"""A label counts from when it was known: a log whose labels are all known after its end teaches nobody anything, and
the sooner labels are known the more they teach.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.app.run import ingest_stage, open_run, train_stage
from recdistill.config.load import load_text
from recdistill.data.store.sample_store import SampleStore
from recdistill.evaluate.metrics import auc
from recdistill.runs.folder import RunFolder
from recdistill.tables.predictions import PredictionLog

ROWS, USERS, DAYS = 60_000, 20_000, 10  # by chance alone an AUC then has a standard deviation of 0.004
DATA = """
data:
  reader: table
  path: log.parquet
  columns: {time_unit: us, tasks: {click: click}, label_times: {click: known}}
"""
CONFIG = """
name: clock
teacher: {kind: hstu, width: 8, history: 10, batch: 200, replay: 1, epochs: 1, pretrain: {at: 0.5, epochs: 1}}
teachers: {other: {kind: target-attention, width: 8, history: 10, batch: 200, stale: {steps: 2}}}
teacher_hidden: {width: 4}
candidates: {count: 2}
students:
  din: {kind: din, width: 8, history: 10, batch: 200, table_rate: 0.05}
  mixed:
    kind: pooled-mlp
    width: 8
    history: 10
    batch: 200
    distill: {teachers: [teacher, other], ensemble: recent, towers: decoupled}
  reads: {kind: pooled-mlp, width: 8, history: 10, batch: 200, distill: {teacher_hidden: 3, candidates: 2}}
evaluate: {seeds: [0], start: 0.5}
checkpoint_rows: 20000
"""
CROSSED = """
name: crossed
teacher: {kind: target-attention, width: 8, history: 10, batch: 200, epochs: 1}
students: {din: {kind: din, width: 8, history: 10, batch: 200, distill: {signals: crossfit}}}
evaluate: {seeds: [0], start: 0.5}
checkpoint_rows: 20000
"""

ONE = """
name: one
teacher: {kind: pooled-mlp, width: 2, history: 1, batch: 500}
students: {din: {kind: din, width: 8, history: 5, batch: 100, table_rate: 0.05}}
evaluate: {seeds: [0], start: 0.5}
checkpoint_rows: 20000
"""


def log_at(folder: Path, days: float | None) -> None:
    """Write a log of which all that can be learned is each user's own rate, 0.1 or 0.9; labels are known so many days
    after their samples, None: a day after the log's end.
    """
    draw, span = np.random.default_rng(0), 86_400 * 1_000_000
    user, time = draw.permutation(np.repeat(np.arange(USERS), ROWS // USERS)), np.arange(ROWS) * (DAYS * span // ROWS)
    rate = np.where(draw.random(USERS) < 0.5, 0.1, 0.9)[user]
    pl.DataFrame(
        {
            "sample_id": np.arange(ROWS),
            "user_id": user,
            "item_id": draw.integers(0, ROWS, ROWS),
            "time": time,
            "click": (draw.random(ROWS) < rate).astype(np.float32),
            "known": np.full(ROWS, (DAYS + 1) * span) if days is None else time + int(days * span),
        }
    ).write_parquet(folder / "log.parquet")


def scores(folder: Path, config: str, *settings: str) -> dict[str, float]:
    """Return the AUC of every model's record over the second half of the log."""
    experiment = load_text(DATA + config, list(settings))
    with open_run(experiment, folder, folder / "run") as run:
        ingest_stage(run, experiment, folder)
        train_stage(run, experiment)
    store, found = SampleStore(RunFolder(folder / "run").store), {}
    labels = np.asarray(store.labels)[ROWS // 2 :, 0]
    for (name,), rows in PredictionLog.open(folder / "run" / "predictions").scan().collect().group_by("model"):
        ordered = (
            rows.filter(pl.col("kind") == "prequential").sort("sample_id")
            if "kind" in rows.columns
            else rows.sort("sample_id")
        )
        if len(ordered) == ROWS:
            found[str(name)] = auc(labels, ordered["logit_click"].to_numpy()[ROWS // 2 :])
    return found


@pytest.mark.parametrize("config", [CONFIG, pytest.param(CROSSED, marks=pytest.mark.long)])
def test_labels_known_after_the_end_teach_nobody(tmp_path: Path, config: str) -> None:
    log_at(tmp_path, None)
    found = scores(tmp_path, config)
    print(found)
    assert len(found) >= 3 and all(abs(value - 0.5) <= 0.01 for value in found.values())


@pytest.mark.long
def test_labels_known_soon_teach_and_the_later_the_less(tmp_path: Path) -> None:
    found = []
    for days in (0.0, 5.0):
        folder = tmp_path / str(days)
        folder.mkdir()
        log_at(folder, days)
        found.append(scores(folder, ONE)["din.raw.s0"])
    print(found)
    assert found[0] > found[1] + 0.1 > 0.65
