"""From a label to the weights: `python benchmarks/reliability/lag.py [SECONDS]`. Budget: p99 <= 5 s at 2,000 rows/s on
2 cores.

A simulated log is replayed through a nats-server at 2,000 rows/s to ingest, gate, teacher, raw and distilled student,
all of them on this machine. A row's lag is the wall time from its leaving the producer to the step that learned from
it. Each commit of a model reports the largest lag since its last; ingest's commits report when their newest row
was published, so half a second, the longest that ingest collects, is added. The share is taken over a model's commits,
which is above that over its rows.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from recdistill.stream.ingest.process import PERIOD
from recdistill.stream.progress import ModelProgress, read_progress
from recdistill.tables.predictions import PredictionLog

__all__ = ["BUDGET", "RATE", "experiment", "lags", "main"]

BUDGET, RATE = 5.0, 2000  # seconds; rows per second
BATCH, SETTLED = 20_000, 5.0  # rows of the batch phase; seconds of the stream before models have started


def experiment(rows: int, rate: float) -> str:
    """Return an experiment that streams `rows` rows, a day of event time, at `rate` rows per second."""
    speed = 86_400 / ((rows + BATCH) / rate)
    return f"""
name: lag
data: {{reader: simulator, options: {{rows: {rows + BATCH}, users: 2000, items: 500, topics: 20, days: 1.0, seed: 7}}}}
teacher: {{kind: target-attention, width: 64, history: 100, batch: 64}}
students:
  light: {{kind: target-attention, width: 16, history: 50, batch: 64}}
evaluate: {{seeds: [0]}}
stream: {{batch_rows: {BATCH}, speed: {speed}, source: {{kind: nats}}, checkpoint_rows: 10000}}
"""


def lags(run: Path) -> dict[str, list[tuple[float, float]]]:
    """Return (wall time of a commit, its largest lag in seconds) by model."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for commit in PredictionLog.open(run / "predictions").commits(-1):
        progress = read_progress(ModelProgress, commit.about)
        if progress is not None and progress.lag:
            found[commit.about["model"]].append((progress.health.wall, progress.lag + PERIOD))
    return found


def main() -> int:
    """Measure; the budget is for each model."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as place:
        config, run = Path(place) / "lag.yaml", Path(place) / "run"
        config.write_text(experiment(seconds * RATE, RATE), encoding="utf-8")
        command = [Path(sys.executable).with_name("recdistill"), "stream", config, "--out", run]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the stream failed: {done.stdout}{done.stderr}")
        return _report(lags(run), seconds)


def _report(found: dict[str, list[tuple[float, float]]], seconds: int) -> int:
    table = Table(
        "model", "commits", "p50 s", "p99 s", "largest s", title=f"label to weights at {RATE:,} rows/s, {seconds} s"
    )
    met = True
    for model, measured in sorted(found.items()):
        start = measured[0][0] + SETTLED
        values = np.array([lag for wall, lag in measured if wall > start])
        p50, p99 = np.quantile(values, [0.5, 0.99])
        met &= bool(p99 <= BUDGET)
        table.add_row(model, str(len(values)), f"{p50:.2f}", f"{p99:.2f}", f"{values.max():.2f}")
    Console(width=120).print(table)
    print(f"budget p99 <= {BUDGET} s: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
