"""Joining a teacher's record to the store against reading its columns plainly: `python benchmarks/join_scan.py`
(about 20 s).

1,000,000 samples in 20 commits, and as many recorded logits. `scan` reads, by polars, the Parquet columns of the
record; `join` is what a student's run does before it learns: the same rows, checksums verified, each logit at its
sample's position in a memory-mapped column. Budget: <= 2.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from _common import SCHEMA, event_chunks, paired, report

from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.signals.columns import join_column
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog

BUDGET = 2.0
ROWS, ROUNDS = 1_000_000, 7
COLUMNS = ["sample_id", "logit_click"]


def make_run(folder: Path) -> tuple[SampleStore, PredictionLog]:
    """Fill both tables, commit by commit; return the store over the samples and the teacher's record."""
    events = EventLog.create(folder / "events", SCHEMA)
    predictions = PredictionLog.create(folder / "predictions", SCHEMA.tasks)
    draw = np.random.default_rng(0)
    for sequence, chunk in enumerate(event_chunks(ROWS, users=20_000, items=20_000)):
        events.append(chunk, writer="benchmark", sequence=sequence)
        logits = pl.Series(draw.normal(size=len(chunk)).astype(np.float32))
        rows = chunk.select("sample_id", "time", logit_click=logits)
        predictions.append(rows, model="teacher", version=1, kind="prequential", writer="benchmark", sequence=sequence)
    return build_store(folder / "store", events, None), predictions


def plain_scan(predictions: PredictionLog) -> None:
    """Read the record's columns by polars, nothing more."""
    pl.scan_parquet(predictions.path / "**" / "*.parquet").select(COLUMNS).collect()


def main() -> int:
    """Measure the join of all rows, first checking that it is right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, predictions = make_run(folder)
        joined = join_column(folder / "joined", store, predictions, "teacher")
        found = int(np.isfinite(joined).sum())
        if found != ROWS:
            raise SystemExit(f"the join found {found} of {ROWS} signals")
        scan, read, plain = paired(
            lambda k: plain_scan(predictions),
            lambda k: sum(map(len, predictions.of("teacher", columns=COLUMNS))),
            ROUNDS,
        )
        _, join, ratio = paired(
            lambda k: plain_scan(predictions),
            lambda k: join_column(folder / f"joined-{k}", store, predictions, "teacher"),
            ROUNDS,
        )
    rows = [
        ["plain scan", f"{scan:.3f}", f"{ROWS / scan:,.0f}", "1"],
        ["our batches of the record", f"{read:.3f}", f"{ROWS / read:,.0f}", f"{plain:.2f}"],
        ["join", f"{join:.3f}", f"{ROWS / join:,.0f}", f"{ratio:.2f}"],
    ]
    return report(f"{ROWS:,} signals", ["what", "s", "rows/s", "ratio"], rows, ratio <= BUDGET, f"<= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
