"""Comparing with other libraries: their environment, the log as the padded arrays they want, and rows per second."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recdistill.config import ModelConfig
from recdistill.data import BatchBuilder, SampleStore, prefetch
from recdistill.learn.learner import Learner
from recdistill.learn.plan import Plan, kept

__all__ = ["environment", "our_rows_per_second", "padded", "peer_rows_per_second"]

HERE = Path(__file__).resolve().parent
Array = np.ndarray[Any, np.dtype[Any]]


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


def padded(store: SampleStore, length: int) -> dict[str, Array]:
    """Return the store as arrays: user, item, hour, device, country int64 [N]; history [N, length], 0-padded; label [N].

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
    names = dict(zip(("hour", "device", "country"), fields, strict=True))
    return {"user": np.asarray(store.user, np.int64), "item": np.asarray(store.item, np.int64), **names,
            "history": history, "label": np.asarray(store.labels[:, 0])}  # fmt: skip


def our_rows_per_second(learner: Learner, store: SampleStore, config: ModelConfig) -> float:
    """Run the loop's own steps over the whole store in time order, after a tenth to warm up; return rows per second."""
    builder = BatchBuilder(store, config.history)
    plan = Plan.of(config, len(store), len(store), 0)
    steps = [step.rows for step in plan.steps(0)]

    def prepare(rows: Array) -> Any:
        return builder.build(rows), kept(store.sample_id[rows], store.labels[rows, 0], config.sampling, 0)

    def run(some: Sequence[Array]) -> float:
        start = time.perf_counter()
        for batch, keep in prefetch(prepare, some):
            learner.learn(batch, torch.from_numpy(keep))
        return sum(map(len, some)) / (time.perf_counter() - start)

    run(steps[: len(steps) // 10])
    return run(steps)


def peer_rows_per_second(python: Path, script: str, *arguments: object) -> float:
    """Run a peer's script with its interpreter; return the number it prints as JSON on its last line."""
    done = subprocess.run([python, HERE / script, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["rows_per_second"])
