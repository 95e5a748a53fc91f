"""What a log leaves out on its way into the tables is passed on to the user."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig, NegativesConfig
from recdistill.config.experiment import Experiment
from recdistill.data.buckets import fitted_edges
from recdistill.data.scales import fitted_scale
from recdistill.runs.batch_ingest import ingest, notes_of, open_tables
from recdistill.runs.folder import RunFolder
from recdistill.tables.predictions import PredictionLog


def test_positives_that_are_left_out_are_noted(tmp_path: Path) -> None:
    clicks = {"time": [0, 1, 2, 3], "user_id": [0, 1, 2, 0], "item_id": [5, 6, 5, 6]}
    pl.DataFrame(clicks).write_parquet(tmp_path / "log.parquet")
    data = DataConfig(
        path="log.parquet", columns=ColumnsConfig(tasks={"click": 1}), negatives=NegativesConfig(per_positive=1)
    )
    folder, notes = RunFolder(tmp_path / "run"), []
    assert ingest(folder, Experiment(name="kept", data=data), tmp_path, lambda rows: None, notes.append) == 4
    events, behaviors = open_tables(folder)
    rows = pl.concat(list(events.batches())).sort("request_id", "label_click")
    assert rows["request_id"].to_list() == [2, 2, 3, 3] and rows["item_id"].to_list() == [6, 5, 5, 6]
    assert behaviors is not None and behaviors.rows() == 4  # histories have every choice
    assert notes == notes_of(folder)
    assert notes[0].startswith("negatives, draw window: 2 of 4 positives left out that nobody else chose in the window")


def test_batch_and_stream_have_the_same_buckets(tmp_path: Path) -> None:
    rate = [0.01 * (k % 37) for k in range(500)]
    columns = {"time": range(500), "user_id": [0] * 500, "item_id": range(500), "label": [0, 1] * 250, "rate": rate}
    pl.DataFrame(columns).write_parquet(tmp_path / "log.parquet")
    data = DataConfig(path="log.parquet", columns=ColumnsConfig(numeric=["rate"]), list_length=3)
    schemas = []
    for name, rows in (("whole", None), ("head", 10), ("none", 0)):
        folder = RunFolder(tmp_path / name)
        ingest(folder, Experiment(name=name, data=data), tmp_path, lambda rows: None, print, rows)
        schemas.append(open_tables(folder)[0].schema)
    assert schemas[0] == schemas[1] == schemas[2] and schemas[0].list_length == 3
    first = pl.Series(rate[:50], dtype=pl.Float32).cast(pl.Float64).to_numpy()
    assert schemas[0].edges == {"rate": fitted_edges(first)} and schemas[0].scales == {"rate": fitted_scale(first)}


def test_files_follow_the_rows_however_many_days_they_span(tmp_path: Path) -> None:
    files, parts = {}, {}
    for step in (60, 86_400):
        rows = {"time": [900_000_000 + step * k for k in range(2_000)], "user_id": [0, 1] * 1_000}
        pl.DataFrame({**rows, "item_id": [3] * 2_000, "label": [0, 1] * 1_000}).write_parquet(
            tmp_path / f"{step}.parquet"
        )
        data = DataConfig(path=f"{step}.parquet", behaviors=BehaviorsConfig(path=f"{step}.parquet"))
        folder = RunFolder(tmp_path / f"run-{step}")
        ingest(folder, Experiment(name="days", data=data), tmp_path, lambda rows: None, print)
        events, behaviors = open_tables(folder)
        assert behaviors is not None
        predictions = PredictionLog.create(folder.predictions, events.schema.tasks)
        ids = pl.concat(events.batches(columns=["sample_id", "time"]))
        for model in ("teacher", "light"):
            recorded = ids.with_columns(logit_click=pl.lit(0.5, pl.Float32))
            predictions.append(recorded, model=model, version=1, kind="prequential", writer=model, sequence=0)
        files[step] = sorted(len(list(log.path.rglob("*.parquet"))) for log in (events, behaviors, predictions))
        parts[step] = [len(frame) for frame in events.batches()]
    assert files[60] == files[86_400] == [1, 1, 2] and parts[60] == parts[86_400] == [2_000]
