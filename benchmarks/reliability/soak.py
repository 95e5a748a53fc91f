"""Eight hours of event time with a kill a minute: `python benchmarks/reliability/soak.py [MINUTES]`. Budget: memory,
handles and lag flat.

A simulated day is replayed through a nats-server so fast that eight hours take MINUTES (10) of wall time, at 300
rows/s; once a minute a process drawn at random (publish, ingest, gate, teacher, students) is killed with kill -9, and
started again by the supervisor. Each commit reports its process's memory, open files and lag. Flat: what each uses
towards the end (the last third, median) is at most 1.25 of what it used after a while (the second third); and every row
was predicted by every model once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from recdistill.stream.progress import GateProgress, Health, IngestProgress, ModelProgress, read_progress
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog

__all__ = ["BUDGET", "HOURS", "RATE", "main"]

BUDGET, HOURS, RATE = 1.25, 8, 300
BATCH = 10_000
ROLES = ("publish", "ingest", "gate", "teacher", "light.raw.s0", "light.distilled.s0")


@dataclass(frozen=True)
class Life:
    """What a commit reports of its process: health, and lag (of a model)."""

    health: Health
    lag: float


def _experiment(minutes: int) -> str:
    rows = minutes * 60 * RATE
    days = HOURS / 24 * (rows + BATCH) / rows
    return f"""
name: soak
data: {{reader: simulator, options: {{rows: {rows + BATCH}, users: 2000, items: 500,
  topics: 20, days: {days}, seed: 7}}}}
teacher: {{kind: target-attention, width: 32, history: 100, batch: 64}}
students:
  light: {{kind: target-attention, width: 16, history: 50, batch: 64}}
evaluate: {{seeds: [0]}}
stream: {{batch_rows: {BATCH}, speed: {HOURS * 60 / minutes}, source: {{kind: nats}}, checkpoint_rows: 5000}}
"""


def _kill_now_and_then(process: subprocess.Popen[str], draw: random.Random) -> int:
    """Kill a process of the stream once a minute until it ends; return how often."""
    kills = 0
    while True:
        try:
            process.wait(60)
            return kills
        except subprocess.TimeoutExpired:
            for role in draw.sample(ROLES, len(ROLES)):
                found = [pid for pid in _children(process.pid) if role in pid[1]]
                if found:
                    os.kill(found[0][0], signal.SIGKILL)
                    kills += 1
                    break


def _children(parent: int) -> list[tuple[int, list[str]]]:
    """Return (pid, command line) of the processes that `parent` started."""
    found = []
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split():
        try:
            found.append((int(pid), Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")))
        except OSError:
            continue
    return found


def _lives(run: Path) -> dict[str, list[Life]]:
    """Return what every process reported of itself, in order."""
    found: dict[str, list[Life]] = defaultdict(list)
    for name, life in _reported(run):
        found[name].append(life)
    return found


def _reported(run: Path) -> Iterator[tuple[str, Life]]:
    for commit in EventLog.open(run / "tables" / "events").commits(-1):
        if (ingest := read_progress(IngestProgress, commit.about)) is not None:
            yield "ingest", Life(ingest.health, 0.0)
    for commit in PredictionLog.open(run / "predictions").commits(-1):
        if (model := read_progress(ModelProgress, commit.about)) is not None:
            yield commit.about["model"], Life(model.health, model.lag)
    for commit in VerdictLog.open(run / "verdicts").commits(-1):
        if (gate := read_progress(GateProgress, commit.about)) is not None:
            yield "gate", Life(gate.health, 0.0)


def _thirds(lives: list[Life]) -> tuple[list[Life], list[Life]]:
    start, end = lives[0].health.wall, lives[-1].health.wall
    third = (end - start) / 3
    late = [life for life in lives if life.health.wall >= end - third]
    return [life for life in lives if start + third <= life.health.wall < end - third], late


def main() -> int:
    """Soak; the budget is for each process."""
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as place:
        config, run = Path(place) / "soak.yaml", Path(place) / "run"
        config.write_text(_experiment(minutes), encoding="utf-8")
        command = [Path(sys.executable).with_name("recdistill"), "stream", config, "--out", run]
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        kills = _kill_now_and_then(process, random.Random(0))
        if process.returncode:
            raise SystemExit(f"the stream failed with exit code {process.returncode}")
        return _report(run, kills, time.monotonic() - start)


def _report(run: Path, kills: int, seconds: float) -> int:
    title = f"{HOURS} h of events in {seconds / 60:.0f} min, {kills} kills"
    table = Table("process", "MB", "later MB", "files", "later files", "lag s", "later lag s", title=title)
    met = True
    for name, lives in sorted(_lives(run).items()):
        sides = _thirds(lives)
        memory, handles, lag = (
            [statistics.median(get(life) for life in side) for side in sides]
            for get in (lambda life: life.health.rss / 1e6, lambda life: life.health.handles, lambda life: life.lag)
        )
        met &= all(later <= BUDGET * first for first, later in (memory, handles)) and lag[1] <= max(
            BUDGET * lag[0], lag[0] + 0.5
        )
        table.add_row(name, *(f"{value:,.0f}" for value in (*memory, *handles)), *(f"{value:.2f}" for value in lag))
    Console(width=120).print(table)
    rows = EventLog.open(run / "tables" / "events").rows()
    recorded = (
        PredictionLog.open(run / "predictions")
        .scan()
        .group_by("model")
        .agg(pl.len(), ids=pl.col("sample_id").n_unique())
        .collect()
    )
    whole = all(row["len"] == row["ids"] == rows for row in recorded.iter_rows(named=True)) and len(recorded) == 3
    print(json.dumps({"rows": rows, "predicted by each model, once": whole}))
    print(f"budget flat within {BUDGET}, every row once: {'met' if met and whole else 'MISSED'}")
    return 0 if met and whole else 1


if __name__ == "__main__":
    sys.exit(main())
