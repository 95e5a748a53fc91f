"""Comparing with other libraries: their environment, the log as the padded arrays they want, and rows per
second, measured alternately.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import learner_of, store_of

from recdistill.config.models import StudentConfig
from recdistill.data.batch.builder import BatchBuilder, prefetch
from recdistill.data.store.sample_store import SampleStore
from recdistill.train.schedule import Plan, kept
from recdistill.typing import Array

__all__ = ["BUDGET", "COLUMNS", "compare", "environment", "log_and_arrays"]

BUDGET = 3.0
ROWS, USERS, ITEMS, ROUNDS = 40_000, 250, 50_000, 3
CONFIG = StudentConfig(
    kind="din", width=16, history=50, table_rate=1e-3, options={"context_width": 16, "unit": [32], "hidden": [64, 32]}
)
COLUMNS = ("log", "recdistill rows/s", "peer rows/s", "ratio", "step alone", "peer's step alone", "ratio")
STEPS = 60  # of the step alone

HERE = Path(__file__).resolve().parent


def environment(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of .bench/NAME, made and filled from the package index when it is not there yet."""
    folder = HERE.parent / ".bench" / name
    python = folder / "bin" / "python"
    done = folder / "requirements.txt"
    wanted = "\n".join(requirements)
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {', '.join(requirements)} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        done.write_text(wanted)
    return python


def padded(store: SampleStore, length: int, context: Sequence[str] = ("hour", "device", "country")) -> dict[str, Array]:
    """Return the store as arrays: user, item and `context`, int64 [N]; history [N, length], 0-padded; label [N].

    Context ids are made small per field, so that the peer's tables are no larger than ours.
    """
    builder = BatchBuilder(store, length)
    history = np.zeros((len(store), length), np.int64)
    for low in range(0, len(store), 10_000):
        rows = np.arange(low, min(low + 10_000, len(store)))
        batch = builder.build(rows).history
        index, _, _, _ = batch.dense()
        history[rows, : index.shape[1]] = batch.unique[index[batch.of]].numpy()
    fields = [np.unique(column, return_inverse=True)[1] + 1 for column in np.asarray(store.context).T]
    names = dict(zip(context, fields, strict=True))
    return {
        "user": np.asarray(store.user, np.int64),
        "item": np.asarray(store.item, np.int64),
        **names,
        "history": history,
        "label": np.asarray(store.labels[:, 0]),
    }


def log_and_arrays(folder: Path, candidates: int) -> tuple[SampleStore, Path]:
    """Return the store over a log of `candidates` samples per request, and the .npz of the same for the peer."""
    store = store_of(folder, ROWS, USERS, ITEMS, candidates)
    np.savez(folder / "arrays.npz", **padded(store, CONFIG.history))  # type: ignore[arg-type]
    return store, folder / "arrays.npz"


def our_speed(store: SampleStore) -> tuple[float, float]:
    """Return rows per second of the loop's own steps over the store in time order, and of the last steps alone.

    The loop warms up on a tenth; for the step alone batches are ready beforehand.
    """
    learner, builder = learner_of(store, CONFIG, None), BatchBuilder(store, CONFIG.history)
    steps = [step.rows for step in Plan.of(CONFIG, len(store), len(store), 0).steps(0)]

    def prepare(rows: Array) -> Any:
        return builder.build(rows), torch.from_numpy(
            kept(store.sample_id[rows], store.labels[rows, 0], CONFIG.sampling, 0)
        )

    def run(some: Sequence[Array], batches: Any) -> float:
        start = time.perf_counter()
        for batch, keep in batches:
            learner.learn(batch, keep)
        return sum(map(len, some)) / (time.perf_counter() - start)

    first, last = steps[: len(steps) // 10], steps[-STEPS:]
    run(first, prefetch(prepare, first))
    return run(steps, prefetch(prepare, steps)), run(last, [prepare(rows) for rows in last])


def peer_speed(python: Path, script: str, *arguments: object) -> tuple[list[float], float]:
    """Run a peer's script with its interpreter; return what it prints as JSON on its last line.

    Rows per second of its loop, without loader workers and with two; and of its step alone.
    """
    done = subprocess.run([python, HERE / script, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found["rows_per_second"], found["step_alone"]


def compare(
    name: str, python: Path, script: str, store: SampleStore, arrays: Path, *extra: object
) -> tuple[float, list[str]]:
    """Measure both sides ROUNDS times, alternately; return (ratio of rows per second, a row under COLUMNS).

    Ratios are medians over rounds, so that what slows the machine for a while slows both sides of a pair.
    """
    loops: list[list[tuple[float, float]]] = [[], []]
    steps: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        ours, alone = our_speed(store)
        theirs, their_step = peer_speed(
            python, script, arrays, torch.get_num_threads(), STEPS, CONFIG.batch, CONFIG.width, 1e-3, *extra
        )
        steps.append((alone, their_step))
        for loop, speed in zip(loops, theirs, strict=True):
            loop.append((ours, speed))
    loop, step = min((_medians(loop) for loop in loops), key=lambda found: found[2]), _medians(steps)
    return loop[2], [
        name,
        *(f"{value:,.0f}" for value in loop[:2]),
        f"{loop[2]:.2f}",
        *(f"{value:,.0f}" for value in step[:2]),
        f"{step[2]:.2f}",
    ]


def _medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the medians of ours, theirs, and ours / theirs."""
    ours, theirs = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(theirs), statistics.median(a / b for a, b in pairs)
