"""A LightGBM teacher for an ingested run: python examples/lightgbm_teacher.py RUN OUT.parquet [BLOCKS]

The log is cut into blocks of equal size. What is said of a block comes from trees, and from rates of users and items,
that know the blocks before it and nothing else, so no prediction has seen its own label. The first block is learned
from and not spoken of: its students have the labels alone. Needs `pip install 'recdistill[lightgbm]'`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl

from recdistill.tables.events import EventLog

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
    mean, columns = past["label"].mean(), {}
    for key in keys:
        known = past.group_by(key).agg(seen=pl.len(), positives=pl.col("label").sum())
        found = rows.select(key).join(known, on=key, how="left", maintain_order="left").fill_null(0)
        name = "_".join(key)
        columns[f"{name}_seen"] = found["seen"]
        columns[f"{name}_rate"] = (found["positives"] + PRIOR * mean) / (found["seen"] + PRIOR)
    return pl.DataFrame(columns)


def predictions(rows: pl.DataFrame, features: list[str], blocks: int = 10) -> pl.DataFrame:
    """Return sample_id and logit of every block but the first. rows: in order of time, with IDS, `features`
    and `label`.
    """
    keys = [("user_id",), ("item_id",), IDS, *(("user_id", name) for name in features if rows[name].dtype.is_integer())]
    edges = [len(rows) * k // blocks for k in range(blocks + 1)]
    seen: list[tuple[np.ndarray, np.ndarray]] = []  # what each block looked like when it came, and how it ended
    said: list[pl.DataFrame] = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        block, past = rows[low:high], rows[:low] if low else rows[:1]
        inputs = (
            pl.concat([rates(past, block, keys), block.select(features)], how="horizontal")
            .to_numpy()
            .astype(np.float32)
        )
        if seen:
            known = lightgbm.Dataset(np.concatenate([x for x, _ in seen]), np.concatenate([y for _, y in seen]))
            trees = lightgbm.train(SETTINGS, known, num_boost_round=100)
            logits = np.asarray(trees.predict(inputs, raw_score=True), np.float32)
            said.append(pl.DataFrame({"sample_id": block["sample_id"], "logit": logits}))
        seen.append((inputs, block["label"].to_numpy()))
    return pl.concat(said)


def main(run: Path, out: Path, blocks: int = 10) -> None:
    """Write what the teacher says of the run's log, a logit per task, to `out`."""
    events = EventLog.open(run / "tables" / "events")
    features = [name for name, kind in events.schema.features.items() if kind in ("int64", "float32")]
    labels = [f"label_{task}" for task in events.schema.tasks]
    rows = pl.concat(list(events.batches(columns=["sample_id", "time", *IDS, *features, *labels])))
    said = [predictions(rows.with_columns(label=pl.col(label).fill_null(0.0)), features, blocks) for label in labels]
    logits = [each["logit"].alias(f"logit_{task}") for task, each in zip(events.schema.tasks, said, strict=True)]
    said[0].select("sample_id").with_columns(logits).write_parquet(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
