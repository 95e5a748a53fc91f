"""Ingest of each format against polars' own scan to Parquet: `python benchmarks/ingest.py [ROWS]` (60,000; 4 minutes).

The same log of 1x, 10x and 100x ROWS as one Parquet file, a folder of 100, CSV, packed CSV, JSON lines and a Delta
table of 20 appends. Ours reads, checks, and commits to the events table; polars' streaming engine writes the same
columns as one Parquet file. Each runs in a process of its own. Budget: peak memory at 100x at most 1.5 times that at
10x, where a chunk is full.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from _common import report
from deltalake import write_deltalake
from memory import peak_of

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.config.experiment import Experiment
from recdistill.runs.batch_ingest import ingest
from recdistill.runs.folder import RunFolder

BUDGET, SIZES = 1.5, (1, 10, 100)
COLUMNS = ColumnsConfig(categorical=["device"], numeric=["price"])
FORMS: dict[str, tuple[str, Callable[[Path], pl.LazyFrame]]] = {
    "Parquet": ("log.parquet", pl.scan_parquet),
    "100 Parquet files": ("parts", lambda path: pl.scan_parquet(path / "*.parquet")),
    "CSV": ("log.csv", pl.scan_csv),
    "CSV, gzip": ("log.csv.gz", pl.scan_csv),
    "JSON lines": ("log.jsonl", pl.scan_ndjson),
    "Delta, 20 appends": ("delta", lambda path: pl.scan_delta(str(path))),
}


def write(folder: Path, rows: int) -> None:
    """Write the log in every form."""
    draw = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "time": 1_700_000_000 + np.arange(rows),
            "user_id": draw.integers(0, 10_000, rows),
            "item_id": draw.integers(0, 5_000, rows),
            "label": draw.integers(0, 2, rows),
            "device": draw.choice(["phone", "tablet", "desk"], rows),
            "price": draw.random(rows),
        }
    )
    frame.write_parquet(folder / "log.parquet")
    frame.write_csv(folder / "log.csv")
    frame.write_ndjson(folder / "log.jsonl")
    with gzip.open(folder / "log.csv.gz", "wb", compresslevel=1) as packed:
        packed.write((folder / "log.csv").read_bytes())
    (folder / "parts").mkdir()
    for name, count in (("parts", 100), ("delta", 20)):
        for k, part in enumerate(frame.iter_slices(-(-rows // count))):
            if name == "parts":
                part.write_parquet(folder / name / f"part-{k}.parquet")
            else:
                write_deltalake(str(folder / name), part.to_arrow(), mode="append")


def ours(form: str, folder: Path, rows: int) -> None:
    """Ingest the log, and write down the seconds it took."""
    name, _ = FORMS[form]
    data = DataConfig(path=name, columns=COLUMNS)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        assert ingest(RunFolder(Path(out) / "run"), Experiment(name="x", data=data), folder, int, str) == rows
        (folder / "seconds").write_text(repr(time.perf_counter() - start))


def theirs(form: str, folder: Path, rows: int) -> None:
    """Write the same columns with polars alone, and write down the seconds it took."""
    name, scan = FORMS[form]
    start = time.perf_counter()
    scan(folder / name).select(pl.all()).sink_parquet(folder / "polars.parquet")
    (folder / "seconds").write_text(repr(time.perf_counter() - start))


def measured(stage: Callable[[Path, int], None], folder: Path, rows: int) -> tuple[float, float]:
    """Return (seconds, peak in MiB) of a stage in a process of its own."""
    peak = peak_of(stage, folder, rows) / 2**20
    return float((folder / "seconds").read_text()), peak


def main() -> int:
    """Measure every format at every size."""
    base = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    found: dict[str, list[tuple[tuple[float, float], tuple[float, float]]]] = {form: [] for form in FORMS}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), base * size)
            for form, runs in found.items():
                both = [measured(partial(stage, form), Path(name), base * size) for stage in (ours, theirs)]
                runs.append((both[0], both[1]))
    rows, largest = [], base * SIZES[-1]
    for form, runs in found.items():
        (seconds, _), (polars, peak) = runs[-1]
        peaks = " / ".join(f"{mine[1]:,.0f}" for mine, _ in runs)
        rows.append([form, f"{largest / seconds:,.0f}", f"{seconds / polars:.1f}", peaks, f"{peak:,.0f}"])
    met = all(runs[-1][0][1] <= BUDGET * runs[-2][0][1] for runs in found.values())
    columns = ["format", "rows/s", "time / polars'", "peak MiB at 1x / 10x / 100x", "polars' at 100x"]
    return report(f"ingest, {largest:,} rows", columns, rows, met, f"peak at 100x <= {BUDGET} x at 10x")


if __name__ == "__main__":
    sys.exit(main())
