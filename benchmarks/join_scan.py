"""Joining a teacher's record against reading the same columns plainly: `python benchmarks/join_scan.py` (about 20 s).

1,000,000 samples in 20 commits, and as many recorded logits. `scan` reads, by polars, the Parquet columns that the join
has to read from both tables, in batches too; `join` yields the samples' batches with the logit beside each. Budget: <=
2.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from _common import SCHEMA, event_chunks, paired, report

from recdistill.tables.events import EventLog
from recdistill.tables.join import join_signals
from recdistill.tables.predictions import PredictionLog

BUDGET = 2.0
ROWS, ROUNDS = 1_000_000, 7
COLUMNS = ["sample_id", "time", "label_click"]


def write_tables(folder: Path) -> tuple[EventLog, PredictionLog]:
    """Fill both tables, commit by commit."""
    events = EventLog.create(folder / "events", SCHEMA)
    predictions = PredictionLog.create(folder / "predictions", SCHEMA.tasks)
    draw = np.random.default_rng(0)
    for sequence, chunk in enumerate(event_chunks(ROWS, users=20_000, items=20_000)):
        events.append(chunk, writer="benchmark", sequence=sequence)
        said = chunk.select("sample_id", "time", logit_click=pl.Series(draw.normal(size=len(chunk)).astype(np.float32)))
        predictions.append(said, model="teacher", version=1, kind="prequential", writer="benchmark", sequence=sequence)
    return events, predictions


def drain(batches: Iterator[pl.DataFrame]) -> int:
    """Read all batches; return the rows."""
    return sum(len(batch) for batch in batches)


def plain_scan(folder: Path) -> None:
    """Read the same columns of both tables' files by polars, nothing more."""
    pl.scan_parquet(folder / "events" / "**" / "*.parquet").select(COLUMNS).collect()
    pl.scan_parquet(folder / "predictions" / "**" / "*.parquet").select("sample_id", "logit_click").collect()


def main() -> int:
    """Measure the join of all rows, first checking that it is right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events, predictions = write_tables(folder)
        joined = drain(
            b.drop_nulls("logit_click") for b in join_signals(events.batches(columns=COLUMNS), predictions, "teacher")
        )
        if joined != ROWS:
            raise SystemExit(f"the join found {joined} of {ROWS} signals")
        scan, join, ratio = paired(
            lambda k: plain_scan(folder),
            lambda k: drain(join_signals(events.batches(columns=COLUMNS), predictions, "teacher")),
            ROUNDS,
        )
        read = paired(lambda k: plain_scan(folder), lambda k: drain(events.batches(columns=COLUMNS)), ROUNDS)[1]
    rows = [
        ["plain scan, both tables", f"{scan:.3f}", f"{ROWS / scan:,.0f}", "1"],
        ["our batches of the samples alone", f"{read:.3f}", f"{ROWS / read:,.0f}", f"{read / scan:.2f}"],
        ["join", f"{join:.3f}", f"{ROWS / join:,.0f}", f"{ratio:.2f}"],
    ]
    return report(f"{ROWS:,} samples", ["what", "s", "rows/s", "ratio"], rows, ratio <= BUDGET, f"<= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
