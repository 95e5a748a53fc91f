"""Rows per second on DIN against torch-rechub 0.9.0: `python benchmarks/rechub.py` (about 2 minutes). Budget: >= 3.

Both train on the same samples with the same histories (50 events), widths (16 everywhere; unit 32, MLP 64-32-16),
batch, Adam and threads, one after the other, `ROUNDS` times turn and turn about. One sample per request, so there is
no history to share between samples; the last line has ten candidates per request, as impression logs do.

Not the same, because neither lets it be chosen: torch-rechub puts batch normalisation and Dice into its MLP and reads
its rows shuffled from padded arrays in memory, with a random access per sample; recdistill's loop also predicts before
it learns, reads in time order from disk, gathers the histories itself, feeds DIN the outcome of each past event, and
moves with Adam only the rows that a batch touched where torch-rechub moves the whole table.
torch-rechub runs with its loader's default (no workers) and with two; the faster counts.

The peer lives in .bench/rechub, a virtual environment that the first run makes from the package index.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _common import learner_of, store_of, tell
from _peers import environment, our_rows_per_second, padded, peer_rows_per_second

from recdistill.config import StudentConfig
from recdistill.data import SampleStore

BUDGET = 3.0
ROWS, USERS, ITEMS, ROUNDS = 100_000, 1_000, 50_000, 3
CONFIG = StudentConfig(kind="din", width=16, history=50, table_rate=1e-3,
                       options={"context_width": 16, "unit": [32], "hidden": [64, 32]})  # fmt: skip
REQUIREMENTS = ("torch==2.13.0", "torch-rechub==0.9.0")


def compare(python: Path, store: SampleStore, arrays: Path) -> tuple[float, float]:
    """Return (ours, theirs), medians of rows per second."""
    threads, ours, theirs = torch.get_num_threads(), [], []
    for _ in range(ROUNDS):
        ours.append(our_rows_per_second(learner_of(store, CONFIG, None), store, CONFIG))
        peers = [peer_rows_per_second(python, "_rechub_peer.py", arrays, threads, workers, CONFIG.batch, CONFIG.width, 1e-3)
                 for workers in (0, 2)]  # fmt: skip
        theirs.append(max(peers))
    return statistics.median(ours), statistics.median(theirs)


def main() -> int:
    """Compare on logs with one and with ten candidates per request; the budget is for the first."""
    python = environment("rechub", REQUIREMENTS)
    rows, ratios = [], []
    for candidates in (1, 10):
        with tempfile.TemporaryDirectory() as name:
            store = store_of(Path(name), ROWS, USERS, ITEMS, candidates)
            arrays = Path(name) / "arrays.npz"
            np.savez(arrays, **padded(store, CONFIG.history))
            ours, theirs = compare(python, store, arrays)
        ratios.append(ours / theirs)
        rows.append([str(candidates), f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}"])
    title = f"DIN, {ROWS:,} rows, {ITEMS:,} items, batch {CONFIG.batch}"
    columns = ["candidates per request", "recdistill rows/s", "torch-rechub rows/s", "ratio"]
    return tell(title, columns, rows, ratios[0] >= BUDGET, f">= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
