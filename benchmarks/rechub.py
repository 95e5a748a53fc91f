"""Rows per second on DIN against torch-rechub 0.9.0: `python benchmarks/rechub.py` (about 2 minutes). Budget: >= 3.

Both train on the same samples with the same histories (50 events), widths (16 everywhere; unit 32, MLP 64-32-16),
batch, Adam and one thread, alternately, each with its own loader and loop; `step alone` is forward, backward
and update on batches that are ready. With one candidate per request there is no history to share between samples, and
the budget is for that; the last line has ten, as impression logs do.

Not the same, because neither lets it be chosen: torch-rechub puts batch normalisation and Dice into its MLP and reads
its rows shuffled from padded arrays in memory, with a random access per sample; recdistill's loop also predicts before
it learns, reads in time order from disk, gathers the histories itself, feeds DIN the outcome of each past event, and
moves with Adam only the rows that a batch touched where torch-rechub moves the whole table.
torch-rechub runs with its loader's default (no workers) and with two; the faster counts.

The peer lives in .bench/rechub, a virtual environment that the first run makes from the package index.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from _common import report
from _peers import BUDGET, COLUMNS, compare, environment, log_and_arrays

REQUIREMENTS = ("torch==2.13.0", "torch-rechub==0.9.0")


def main() -> int:
    """Compare on logs with one and with ten candidates per request."""
    python, found = environment("rechub", REQUIREMENTS), []
    for candidates in (1, 10):
        with tempfile.TemporaryDirectory() as folder:
            store, arrays = log_and_arrays(Path(folder), candidates)
            found.append(compare(f"{candidates} per request", python, "_rechub_peer.py", store, arrays))
    return report("DIN against torch-rechub", COLUMNS, [row for _, row in found], found[0][0] >= BUDGET, f">= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
