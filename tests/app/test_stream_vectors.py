"""A stream goes on with what tables next to the log say: items that come up in it have their features and vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from recdistill.app.stream import run_alone
from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from tests.train.test_vectors import CONFIG, ITEMS, ROWS, written

BATCH = 2500
SETS = [
    "data.items={path: items.parquet, key: sku, categorical: [colour]}",
    f"stream={{batch_rows: {BATCH}, commit_rows: 500}}",
    "students.light.epochs=4",
]


def test_items_that_come_up_in_a_stream_have_their_vectors_and_features(tmp_path: Path) -> None:
    written(tmp_path)
    log = pl.read_parquet(tmp_path / "log.parquet")
    old = pl.col("item_id") < ITEMS // 2  # the batch phase knows half of the items
    pl.concat([log.filter(old), log.filter(~old)]).with_columns(time=log["time"]).write_parquet(
        tmp_path / "log.parquet"
    )
    items = pl.read_parquet(tmp_path / "items.parquet").with_columns(colour=pl.col("sku") % 7)
    items.write_parquet(tmp_path / "items.parquet")
    experiment, root = load_text(CONFIG, SETS), tmp_path / "run"
    for role in ("batch", "publish", "ingest", "teacher", "light.raw.s0"):
        run_alone(experiment, tmp_path, root, role)
    folder = RunFolder(root)
    events = EventLog.open(folder.tables / "events").scan().collect()
    assert len(events) == ROWS and (events["feature_colour"] == events["item_id"] % 7).all()
    predictions = PredictionLog.open(folder.predictions).scan().collect().join(events, on="sample_id")
    new = predictions.filter(~old, pl.col("sample_id") >= BATCH)
    first = new.sort("sample_id").unique(["model", "item_id"], keep="first")
    for model in ("teacher", "light.raw.s0"):
        met = first.filter(model=model).sort("sample_id").head(200)
        assert len(met) == 200
        assert roc_auc_score(met["label_click"].to_numpy(), met["logit_click"].to_numpy()) > 0.7
        assert np.isfinite(met["logit_click"].to_numpy()).all()
