"""Ingest and store of many narrow rows: `python benchmarks/large.py [ROWS] [FOLDER]` (10 million, 2 minutes, 2 GB).
Budget: at least 100,000 rows/s each.

A Parquet file of user, item, time, label and two features is written a chunk at a time; ingest and store run in a
process each. Bytes are what the tables and the store take; peaks are of anonymous memory.
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
from memory import peak_of

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.config.experiment import Experiment
from recdistill.data.store.sample_store import build_store
from recdistill.runs.batch_ingest import ingest, open_tables
from recdistill.runs.folder import RunFolder

BUDGET = 100_000  # rows a second
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


def timed(stage: Callable[[Path, int], None], folder: Path, rows: int) -> tuple[float, int]:
    """Return (seconds, peak bytes) of a stage in a process of its own; starting it takes about 2 seconds of them."""
    start = time.perf_counter()
    peak = peak_of(stage, folder, rows)
    return time.perf_counter() - start, peak


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Measure both stages."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as name:
        folder, run, found, met = Path(name), RunFolder(Path(name) / "run"), [], True
        write(folder / "log.parquet", rows)
        for stage, out in ((fill, run.tables), (store, run.store)):
            seconds, peak = timed(stage, folder, rows)
            met &= rows / seconds >= BUDGET
            cells = f"{seconds:,.0f}", f"{rows / seconds:,.0f}", f"{size_of(out) / 1e6:,.0f}", f"{peak / 2**20:,.0f}"
            found.append([stage.__name__, *cells])
        log = (folder / "log.parquet").stat().st_size / 1e6
    title = f"{rows:,} rows, {log:,.0f} MB of Parquet; load {os.getloadavg()[0]:.1f}"
    return report(title, ["stage", "s", "rows/s", "MB", "peak MiB"], found, met, f"{BUDGET:,} rows/s each")


if __name__ == "__main__":
    sys.exit(main())
