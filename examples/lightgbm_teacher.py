"""A LightGBM teacher for an ingested run: python examples/lightgbm_teacher.py RUN OUT.parquet [BLOCKS]

The log is cut into blocks of equal size. What is said of a block comes from trees, and from rates of users and items,
that know what was known before it and nothing else: the labels of earlier blocks, once their time has come. The first
block is learned from and not spoken of: its students have the labels alone. Needs `pip install 'recdistill[lightgbm]'`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl

from recdistill.tables.events import EventLog
from recdistill.tables.schema import feature_column

IDS = ("user_id", "item_id")
SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
    "lambda_l2": 10.0,
    "num_threads": 2,
    "verbose": -1,
    "deterministic": True,
    "seed": 0,
}
PRIOR = 10  # rows of the mean that a rate starts from


def rates(past: pl.DataFrame, rows: pl.DataFrame, keys: list[tuple[str, ...]]) -> pl.DataFrame:
    """Return what `past` knows of each row by each of `keys`: how many samples, and the share of positives,
    shrunk to the mean.
    """
    mean, columns = past["label"].mean() if len(past) else 0.5, {}
    for key in keys:
        known = past.group_by(key).agg(seen=pl.len(), positives=pl.col("label").sum())
        found = rows.select(key).join(known, on=key, how="left", maintain_order="left").fill_null(0)
        name = "_".join(key)
        columns[f"{name}_seen"] = found["seen"]
        columns[f"{name}_rate"] = (found["positives"] + PRIOR * mean) / (found["seen"] + PRIOR)
    return pl.DataFrame(columns)


def predictions(rows: pl.DataFrame, features: list[str], blocks: int = 10) -> pl.DataFrame:
    """Return sample_id and logit of every block but the first. rows: in order of time, with IDS, `features`,
    `label`, `time` and `known`, when the label was known.
    """
    keys = [("user_id",), ("item_id",), IDS, *(("user_id", name) for name in features if rows[name].dtype.is_integer())]
    edges = [len(rows) * k // blocks for k in range(blocks + 1)]
    seen: list[np.ndarray] = []  # what each block looked like when it came
    said: list[pl.DataFrame] = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        block, labelled = rows[low:high], (pl.col("known") < rows["time"][low]) & pl.col("label").is_not_null()
        past, ended = rows[:low].filter(labelled), rows[:low].select(labelled).to_series().to_numpy()
        inputs = (
            pl.concat([rates(past, block, keys), block.select(features)], how="horizontal")
            .to_numpy()
            .astype(np.float32)
        )
        if len(past):
            known = lightgbm.Dataset(np.concatenate(seen)[ended], past["label"].to_numpy())
            trees = lightgbm.train(SETTINGS, known, num_boost_round=100)
            logits = np.asarray(trees.predict(inputs, raw_score=True), np.float32)
            said.append(pl.DataFrame({"sample_id": block["sample_id"], "logit": logits}))
        seen.append(inputs)
    return pl.concat(said)


def main(run: Path, out: Path, blocks: int = 10) -> None:
    """Write what the teacher says of the run's log, a logit per task, to `out`."""
    events = EventLog.open(run / "tables" / "events")
    features = [feature_column(name) for name, kind in events.schema.features.items() if kind in ("int64", "float32")]
    labels = [f"label_{task}" for task in events.schema.tasks]
    times = [f"label_time_{task}" for task in events.schema.label_times]
    rows = pl.concat(list(events.batches(columns=["sample_id", "time", *IDS, *features, *labels, *times])))
    known = {label: f"label_time_{label.removeprefix('label_')}" for label in labels}
    said = [
        predictions(rows.with_columns(label=label, known=time if time in times else "time"), features, blocks)
        for label, time in known.items()
    ]
    logits = [each["logit"].alias(f"logit_{task}") for task, each in zip(events.schema.tasks, said, strict=True)]
    said[0].select("sample_id").with_columns(logits).write_parquet(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
