"""What the reliability benchmarks share: a small stream whose processes are started, killed and compared one by one."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from dataclasses import dataclass, field, fields
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recdistill.app.run import open_run
from recdistill.app.stream import batch_stage, run_role
from recdistill.config.load import load_text
from recdistill.errors import RecdistillError
from recdistill.runs.folder import RunFolder
from recdistill.stream.maintenance import compact
from recdistill.stream.workers.build import stream_checkpoints
from recdistill.tables.delta.log import PROPERTIES
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.testing.killpoints import VARIABLE

__all__ = ["CONTEXT", "MODELS", "ROLES", "Differences", "Stream", "differences", "result_of"]

CONFIG = """
name: reliability
data: {{reader: simulator, options: {{rows: {rows}, users: 60, items: 80, days: 1.0}}}}
teacher: {{kind: pooled-mlp, width: 4, history: 10, batch: 25}}
students:
  light: {{kind: pooled-mlp, width: 4, history: 5, batch: 25, optimiser: rowwise-adagrad, distill: {{weight: auto}}}}
evaluate: {{seeds: [0]}}
stream:
  batch_rows: 1000
  speed: {speed}
  wait_s: 1.0e+9
  late_s: 1.0e+9
  commit_rows: 100
  checkpoint_rows: 250
  undo_hours: 0.001
  source: {{kind: {source}, message_rows: 10}}
  health: {{rows: 100}}
"""
MODELS = ("teacher", "light.raw.s0", "light.distilled.s0")
ROLES = ("publish", "ingest", "gate", *MODELS)
CONTEXT = multiprocessing.get_context("forkserver")  # imports torch once; a process then starts in a moment
CONTEXT.set_forkserver_preload(["recdistill.app.stream"])


@dataclass
class Stream:
    """A run of `rows` samples, a thousand of them in batch; its processes by role, each started again when
    it was killed.
    """

    root: Path
    rows: int = 4000
    seconds: float | None = None
    source: str = "table"
    running: dict[str, BaseProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        PROPERTIES["delta.checkpointInterval"] = "10"  # so that logs are cut
        speed = "null" if self.seconds is None else str(86_400 * (1 - 1000 / self.rows) / self.seconds)
        self.experiment = load_text(CONFIG.format(rows=self.rows, speed=speed, source=self.source))
        with open_run(self.experiment, None, self.root) as folder:
            batch_stage(folder, self.experiment, None)
        self.folder = RunFolder(self.root)

    def start(self, role: str, point: str = "") -> None:
        """Start a process; at `point`, NAME:COUNT, it kills itself."""
        process = CONTEXT.Process(target=_work, args=(str(self.root), role, point))
        process.start()
        self.running[role] = process

    def ended(self) -> dict[str, int]:
        """Return the exit codes of the processes that ended since, and forget them."""
        gone = {role: process.exitcode for role, process in self.running.items() if process.exitcode is not None}
        for role in gone:
            del self.running[role]
        return {role: code for role, code in gone.items() if code is not None}

    def stop(self) -> None:
        """End what still runs."""
        for process in self.running.values():
            process.kill()
            process.join()
        self.running.clear()


def _work(root: str, role: str, point: str) -> None:
    """Run one role; compaction comes round often and cuts the logs, so that it can be met."""
    os.environ[VARIABLE] = point
    torch.set_num_threads(1)
    compact.EVERY, compact.SMALL, compact.CUT_EVERY = 0.3, 8, 0.3  # type: ignore[misc]
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    folder = RunFolder(Path(root))
    try:
        run_role(folder, folder.experiment(), None, role)
    except RecdistillError as error:
        print(f"{role}: {error}", flush=True)
        os._exit(3)


@dataclass(frozen=True)
class Result:
    """What a stream leaves: per model its newest checkpoint's weights and counts, and the rows of both tables."""

    weights: dict[str, dict[str, torch.Tensor]]
    counts: dict[str, object]
    wrong_joins: int
    events: pl.DataFrame
    predictions: pl.DataFrame


def result_of(root: Path) -> Result:
    """Return the result in a run's folder, rows in order."""
    folder, weights, counts = RunFolder(root), {}, {}
    for model in MODELS:
        latest = stream_checkpoints(folder, model).latest()
        if latest is None:
            raise SystemExit(f"{model} has no checkpoint")
        learned = [name for name in latest[1].tensors if name.split("/")[0] in ("network", "table", "optimiser")]
        weights[model] = {name: latest[1].tensors[name] for name in learned}
        names = ("labels", "positives", "learned", "signals")  # counts
        sums = {name: latest[1].state["sums"].get(name, 0) for name in names}
        counts[model] = (latest[0], latest[1].state["learned_from"], sums)
    recorded = PredictionLog.open(folder.predictions).scan().collect().sort("model", "sample_id")
    events = EventLog.open(folder.tables / "events").scan().collect().sort("sample_id")
    return Result(weights, counts, _wrong_joins(folder, recorded), events, recorded)


def _wrong_joins(folder: RunFolder, recorded: pl.DataFrame) -> int:
    """Return how many signals, in all kept checkpoints of the student, are not what that version of the
    teacher predicted for that sample.
    """
    truth = recorded.filter(model="teacher").select("sample_id", "version", "^logit_.*$")
    wrong, student = 0, stream_checkpoints(folder, "light.distilled.s0")
    for block in student.blocks():
        held = {
            name: value.numpy() for name, value in student.load(block).tensors.items() if name.startswith("store/rows/")
        }
        ids, version, signals = (held[f"store/rows/{name}"] for name in ("sample_id", "version", "signals"))
        has_signal = ~np.isnan(signals[:, 0])
        found = pl.DataFrame({"sample_id": ids[has_signal], "version": version[has_signal]}).join(
            truth, on=["sample_id", "version"], how="left", maintain_order="left"
        )
        differs = found.select("^logit_.*$").to_numpy() != signals[has_signal]  # NaN where the row is missing
        wrong += int(differs.any(1).sum())
    return wrong


@dataclass
class Differences:
    """Counts over all compared streams."""

    rows_lost: int = 0
    rows_twice: int = 0
    rows_that_differ: int = 0
    models_that_learned_other_rows_or_signals: int = 0
    models_whose_weights_differ: int = 0
    joins_with_a_wrong_id_or_version: int = 0
    torn_versions_seen: int = 0

    def add(self, other: Differences) -> None:
        """Add another stream's."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def differences(want: Result, got: Result) -> Differences:
    """Compare with the stream that was never killed, bit for bit."""
    found = Differences(joins_with_a_wrong_id_or_version=got.wrong_joins)
    for key, one, other in (
        (["sample_id"], want.events, got.events),
        (["model", "sample_id"], want.predictions, got.predictions),
    ):
        rows, distinct = other.select(key), other.select(key).unique()
        found.rows_lost += len(one.join(distinct, on=key, how="anti"))
        found.rows_twice += len(rows) - len(distinct)
        found.rows_that_differ += len(other.join(one, on=one.columns, how="anti", nulls_equal=True))
    for model in MODELS:
        one, other = want.weights[model], got.weights[model]
        same = one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
        found.models_whose_weights_differ += not same
        found.models_that_learned_other_rows_or_signals += _plain(want.counts[model]) != _plain(got.counts[model])
    return found


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
