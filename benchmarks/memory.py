"""Peak memory against the size of the log: `python benchmarks/memory.py` (about 3 minutes). Budget: at most 1.25 times.

The same users and items, 1x, 10x and 100x the rows; each stage of each size runs in a process of its own: ingest
(events into the table, chunk by chunk), store (columns and histories), train (a student, one pass). Peak is the
process's largest anonymous memory, sampled every 10 ms: pages of memory-mapped files are the system's to drop, and are
not counted.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from _common import SCHEMA, event_chunks, learner_of, report

from recdistill.config.models import StudentConfig
from recdistill.data.batch.builder import BatchBuilder, prefetch
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.tables.events import EventLog

BUDGET = 1.25
BASE, SIZES, USERS, ITEMS = 50_000, (1, 10, 100), 2_000, 20_000
CONFIG = StudentConfig(kind="pooled-mlp", width=8, history=20, batch=2_048)


def anonymous() -> int:
    """Return this process's anonymous resident memory in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status has no RssAnon; this benchmark needs Linux")


def ingest(folder: Path, rows: int) -> None:
    """Fill the events table."""
    log = EventLog.create(folder / "events", SCHEMA)
    for sequence, chunk in enumerate(event_chunks(rows, USERS, ITEMS)):
        log.append(chunk, writer="benchmark", sequence=sequence)


def store(folder: Path, rows: int) -> None:
    """Build the store."""
    build_store(folder / "store", EventLog.open(folder / "events"), None)


def train(folder: Path, rows: int) -> None:
    """Learn from every row once."""
    learn(SampleStore(folder / "store"), 0, rows)


def learn(opened: SampleStore, first: int, rows: int) -> None:
    """Learn from the rows of a store from `first` to before `rows`, each once."""
    learner, builder = learner_of(opened, CONFIG, None), BatchBuilder(opened, CONFIG.history)
    steps = [np.arange(low, min(low + CONFIG.batch, rows)) for low in range(first, rows, CONFIG.batch)]
    for batch in prefetch(builder.build, steps):
        learner.learn(batch, torch.ones(len(batch), dtype=torch.bool))


def _watched(stage: Callable[[Path, int], None], folder: Path, rows: int, answer: Connection) -> None:
    peak, stop = [anonymous()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        stage(folder, rows)
    finally:
        stop.set()
        thread.join()
    answer.send(max(peak[0], anonymous()))


def peak_of(stage: Callable[[Path, int], None], folder: Path, rows: int) -> int:
    """Return the peak in bytes of one stage in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_watched, args=(stage, folder, rows, send))
    process.start()
    send.close()
    peak = int(receive.recv())
    process.join()
    return peak


def main() -> int:
    """Measure every stage at every size; the budget is for each stage's largest against its smallest size."""
    stages = (ingest, store, train)
    peaks: dict[str, list[int]] = {stage.__name__: [] for stage in stages}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            for stage in stages:
                peaks[stage.__name__].append(peak_of(stage, Path(folder), BASE * size))
    rows = [
        [name, *(f"{peak / 2**20:,.0f}" for peak in found), f"{found[-1] / found[0]:.2f}"]
        for name, found in peaks.items()
    ]
    met = all(found[-1] <= BUDGET * found[0] for found in peaks.values())
    columns = ["stage", *(f"{BASE * size:,} rows" for size in SIZES), f"{SIZES[-1]}x / 1x"]
    return report("peak memory, MiB", columns, rows, met, f"{SIZES[-1]}x / 1x <= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
