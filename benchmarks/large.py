"""A log of many narrow rows from end to end: `python benchmarks/large.py [ROWS] [FOLDER]` (10 million, 4 minutes, 3 GB
of disk). Budget: every stage within 4 GiB of memory; ingest and store at least 100,000 rows/s each.

A Parquet file of user, item, time, label and two features is written a chunk at a time; each stage runs in a process of
its own. Fill and store take the whole log. Train takes its last million rows: a pooled MLP of width 8 with 20 events,
one thread; a step costs the same wherever the log ends, and all of it would take an hour per hundred million. Score
reads what a model predicted for the last tenth and computes its figures, with 200 replicates of users, items and
stretches of time. Bytes are what the tables and the store take; peaks are of anonymous memory.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from _common import report
from memory import learn, peak_of

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.config.experiment import Experiment
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.evaluate.model_scores import WHOLE, Asked, Scored, scores_of
from recdistill.evaluate.window import load_window
from recdistill.runs.batch_ingest import ingest, open_tables
from recdistill.runs.folder import RunFolder
from recdistill.tables.predictions import PredictionLog

Stage = Callable[[Path, int], None]
BUDGET, MEMORY = 100_000, 4 << 30  # rows a second, bytes
TRAINED, SCORED, REPLICATES = 1_000_000, 0.1, 200  # rows, share of the log
CHUNK, USERS, ITEMS = 1 << 20, 1_000_000, 200_000
DATA = DataConfig(path="log.parquet", columns=ColumnsConfig(categorical=["device"], numeric=["price"]))


def chunk_of(at: int, rows: int) -> pl.DataFrame:
    """Return the rows from `at` on: ten a second, users evenly, items the more often the lower their number."""
    draw = np.random.default_rng((0, at))
    return pl.DataFrame(
        {
            "user_id": draw.integers(0, USERS, rows, np.int32),
            "item_id": (ITEMS * draw.random(rows) ** 3).astype(np.int32),
            "time": 1_600_000_000 + (at + np.arange(rows)) // 10,
            "label": (draw.random(rows) < 0.1).astype(np.int8),
            "device": draw.integers(0, 8, rows, np.int8),
            "price": draw.integers(1, 10_000, rows).astype(np.float32) / 100,
        }
    )


def write(path: Path, rows: int) -> None:
    """Write the log, a chunk at a time."""
    with pq.ParquetWriter(path, chunk_of(0, 1).to_arrow().schema) as writer:
        for at in range(0, rows, CHUNK):
            writer.write_table(chunk_of(at, min(CHUNK, rows - at)).to_arrow())


def fill(folder: Path, rows: int) -> None:
    """Ingest the log."""
    assert ingest(RunFolder(folder / "run"), Experiment(name="large", data=DATA), folder, int, print) == rows


def store(folder: Path, rows: int) -> None:
    """Build the store."""
    run = RunFolder(folder / "run")
    assert len(build_store(run.store, *open_tables(run))) == rows


def train(folder: Path, rows: int) -> None:
    """Learn from the last rows of the log, each once."""
    learn(SampleStore(RunFolder(folder / "run").store), first_of(train, rows), rows)


def predict(folder: Path, rows: int) -> None:
    """Record a model's predictions, drawn at random, for the rows that are scored."""
    run = RunFolder(folder / "run")
    opened = SampleStore(run.store)
    log = PredictionLog.create(run.predictions, opened.tasks)
    for sequence, low in enumerate(range(first_of(predict, rows), rows, CHUNK)):
        part = slice(low, min(low + CHUNK, rows))
        logits = np.random.default_rng((1, low)).normal(-2, 1, (part.stop - part.start, 1)).astype(np.float32)
        found = log.rows_of(opened.sample_id[part], opened.time[part], logits)
        log.append(found, model="m", version=0, kind="prequential", writer="m", sequence=sequence)


def score(folder: Path, rows: int) -> None:
    """Compute the figures of what was predicted."""
    run = RunFolder(folder / "run")
    events, predictions = open_tables(run)[0], PredictionLog.open(run.predictions)
    task = events.schema.tasks[0]
    load_window(events, events.version, task, 1 - SCORED, "user").save(folder / "window" / WHOLE)
    asked = Asked(folder / "window", run.predictions, predictions.version, task, None, REPLICATES)
    assert len(scores_of(asked, Scored("m", 0.0, WHOLE)).drawn["auc"]) == REPLICATES + 1


def first_of(stage: Stage, rows: int) -> int:
    """Return the first row that a stage takes."""
    if stage is train:
        return max(rows - TRAINED, 0)
    return rows - int(SCORED * rows) if stage in (predict, score) else 0


def timed(stage: Stage, folder: Path, rows: int) -> tuple[float, int]:
    """Return (seconds, peak bytes) of a stage in a process of its own; starting it takes about 2 seconds of them."""
    start = time.perf_counter()
    peak = peak_of(stage, folder, rows)
    return time.perf_counter() - start, peak


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Measure every stage."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as name:
        folder, run, found, met = Path(name), RunFolder(Path(name) / "run"), [], True
        write(folder / "log.parquet", rows)
        for stage, out in ((fill, run.tables), (store, run.store), (train, None), (predict, None), (score, None)):
            taken, (seconds, peak) = rows - first_of(stage, rows), timed(stage, folder, rows)
            met &= peak <= MEMORY and (out is None or rows / seconds >= BUDGET)
            bytes_ = "" if out is None else f"{size_of(out) / 1e6:,.0f}"
            cells = f"{taken:,}", f"{seconds:,.0f}", f"{taken / seconds:,.0f}", bytes_, f"{peak / 2**20:,.0f}"
            found.append([stage.__name__, *cells])
        log = (folder / "log.parquet").stat().st_size / 1e6
    title = f"{rows:,} rows, {log:,.0f} MB of Parquet; load {os.getloadavg()[0]:.1f}"
    budget = f"4 GiB each; fill and store {BUDGET:,} rows/s"
    return report(title, ["stage", "rows", "s", "rows/s", "MB", "peak MiB"], found, met, budget)


if __name__ == "__main__":
    sys.exit(main())
