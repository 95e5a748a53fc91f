"""Late, early, repeated and missing signals and labels: `python benchmarks/reliability/disorder.py [SEEDS]` (5).

The demo's simulated world as a stream. Shares of 0, 1, 10 and 30 % of the teacher's signals are each lost, come late (half of these
within the bound, half after it), early (before their sample) or twice; then the same of the labels, which are told as outcomes
against a window. Shown: how many samples were learned with their signal of those that could be, what was counted, and the
main tower's NE less the raw student's that learned from the same labels, seed by seed, over the second half of the stream.
Budget: all that could be matched is, and no interval lies above 0.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from recdistill.config import Experiment, load_text
from recdistill.data.readers import open_log
from recdistill.learn import worker
from recdistill.learn.folder import RunFolder
from recdistill.stream.about import IngestAbout, ModelAbout, read_about, to_metadata
from recdistill.stream.journal import Journal
from recdistill.stream.setup import run_model
from recdistill.tables import EventLog, OutcomeLog, PredictionLog, VerdictLog

__all__ = ["SHARES", "main"]

ROWS, COMMIT, SHARES = 60_000, 1_000, (0.0, 0.01, 0.1, 0.3)
BOUND, PAST = 3, 30  # commits that a signal may be late within the bound; commits after which it is too late
DAYS = 14.0
STEP = DAYS * 86_400 * COMMIT / ROWS  # event seconds of a commit, on average
CONFIG = f"""
name: disorder
data: {{reader: simulator, options: {{rows: {ROWS}, users: 500, items: 100, topics: 20, topics_liked: 3, days: {DAYS}, seed: 7}}}}
teacher: {{kind: target-attention, width: 64, history: 200, batch: 64, table_rate: 2.0e-2}}
students:
  light: {{kind: target-attention, width: 16, history: 100, batch: 64, table_rate: 2.0e-2, distill: {{weight: 2.0}}}}
stream: {{checkpoint_rows: {ROWS}, commit_rows: 20000, wait_s: {8 * STEP}, late_s: {20 * STEP}}}
"""


def _fates(draw: np.random.Generator, share: float, rows: int) -> dict[str, np.ndarray]:
    return {kind: draw.random(rows) < share for kind in ("missing", "late", "early", "twice")}


def _arrivals(draw: np.random.Generator, share: float, rows: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Return (rows and the commit each comes with, as pieces; which come in time at all)."""
    fate, commit = _fates(draw, share, rows), np.arange(rows) // COMMIT
    past = fate["late"] & (draw.random(rows) < 0.5)
    when = commit + np.where(past, PAST, np.where(fate["late"], draw.integers(1, BOUND, rows), np.where(fate["early"], -1, 0)))
    there = ~fate["missing"]
    pieces = [(np.flatnonzero(there), when[there]), (np.flatnonzero(there & fate["twice"]), when[there & fate["twice"]] + 1)]
    return pieces, there & ~past


def _events(folder: RunFolder, rows: pl.DataFrame, schema_of: Experiment, told: list[int] | None) -> None:
    """Write the samples as a stream; told: versions of the outcomes table that each commit has seen."""
    log = open_log(schema_of.data, None)
    events = EventLog.create(folder.tables / "events", log.schema)
    PredictionLog.create(folder.predictions, log.schema.tasks)
    VerdictLog.create(folder.verdicts)
    events.mark("handover", 0, {})
    for number, at in enumerate(range(0, len(rows), COMMIT)):
        part = rows[at : at + COMMIT]
        about = IngestAbout(watermark=int(part["time"].dt.epoch("us").max()), end=at + COMMIT >= len(rows),  # type: ignore[arg-type]
                            seen={} if told is None else {"outcomes": told[number]})  # fmt: skip
        events.append(part, writer="ingest", sequence=number, new_ids=True, metadata=to_metadata(about))


def _scripted(folder: RunFolder, signals: pl.DataFrame, pieces: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Say a teacher's signals in the commits they come with; all of it is cleared."""
    log = PredictionLog.open(folder.predictions)
    at, when = (np.concatenate([piece[k] for piece in pieces]) for k in (0, 1))
    for number, commit in enumerate(range(int(when.min()), int(when.max()) + 1)):
        part = signals[np.sort(at[when == commit])]
        metadata = {"keep_rates": '{"click": [1.0, 1.0], "finish": [1.0, 1.0]}', **to_metadata(ModelAbout(end=bool(commit == when.max())))}
        log.append(part.unique("sample_id", maintain_order=True), model=worker.TEACHER, version=0, kind="prequential", writer="scripted",
                   sequence=number, metadata=metadata, new_samples=True)  # fmt: skip
    VerdictLog.open(folder.verdicts).append(VerdictLog.row(worker.TEACHER, 0, "good", rows=10**9), writer="gate", sequence=0)


def _outcomes(folder: RunFolder, rows: pl.DataFrame, experiment: Experiment, draw: np.random.Generator, share: float) -> list[int]:
    """Tell the positives as outcomes, disturbed; return the table's version by commit of events."""
    log = OutcomeLog.create(folder.tables / "outcomes", open_log(experiment.data, None).schema)
    pieces, _ = _arrivals(draw, share, len(rows))
    at, when = (np.concatenate([piece[k] for piece in pieces]) for k in (0, 1))
    positive = rows["label_click"].to_numpy()[at] == 1
    at, when = at[positive], when[positive]
    told: list[int] = []
    for commit in range(-(-len(rows) // COMMIT)):
        part = rows[at[when == commit]].select("sample_id", task=pl.lit("click"), label=pl.lit(1.0, pl.Float32), time="time")
        told.append(log.append(part, writer="ingest", sequence=commit))
    return told


def _ne(folder: RunFolder, model: str, labels: np.ndarray) -> float:
    """Return the NE of the second half of what a model said."""
    said = pl.concat(list(PredictionLog.open(folder.predictions).of(model, columns=["sample_id", "logit_click"]))).sort("sample_id")
    z, y = (values[len(labels) // 2 :].astype(np.float64) for values in (said["logit_click"].to_numpy(), labels))
    rate = y.mean()
    return float((np.logaddexp(0, z) - y * z).mean() / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


def _run(folder: RunFolder, experiment: Experiment, job: worker.Job) -> ModelAbout:
    run_model(folder, experiment, job, Journal(folder.logs, job.name))
    commits = PredictionLog.open(folder.predictions).commits(-1)
    return [about for commit in commits if commit.about.get("model") == job.name and (about := read_about(ModelAbout, commit.about))][-1]


Case = tuple[str, RunFolder, Experiment, int]


def _cases(place: Path, experiment: Experiment, rows: pl.DataFrame, signals: pl.DataFrame) -> Iterator[Case]:
    """Yield (name, folder, experiment, samples that could have their signal) of every disturbance."""
    for share in SHARES:
        folder, draw = RunFolder(place / f"signals-{share}"), np.random.default_rng(1)
        _events(folder, rows, experiment, None)
        pieces, there = _arrivals(draw, share, len(rows))
        _scripted(folder, signals, pieces)
        yield f"signals {share:.0%}", folder, experiment, int(there.sum())
    delayed = load_text(CONFIG, [f"evaluate.seeds={list(experiment.evaluate.seeds)}", f"stream.labels.window_s={5 * STEP}"])
    for share in SHARES:
        folder, draw = RunFolder(place / f"labels-{share}"), np.random.default_rng(2)
        told = _outcomes(folder, rows, experiment, draw, share)
        _events(folder, rows.with_columns(label_click=pl.lit(None, pl.Float32)), experiment, told)
        _scripted(folder, signals, _arrivals(draw, 0.0, len(rows))[0])
        yield f"labels {share:.0%}", folder, delayed, -1


def main() -> int:
    """Disturb, run, compare."""
    torch.set_num_threads(1)
    experiment = load_text(CONFIG, [f"evaluate.seeds={list(range(int(sys.argv[1]) if len(sys.argv) > 1 else 5))}"])
    rows = pl.concat(list(open_log(experiment.data, None).batches()))
    labels, met = rows["label_click"].to_numpy(), True
    columns = ("each of four ways", "with signal / could", "counted", "raw NE", "distilled - raw, 95 % interval")
    table = Table(*columns, title=f"{ROWS:,} samples")
    with tempfile.TemporaryDirectory() as place:
        calm = RunFolder(Path(place) / "calm")
        _events(calm, rows, experiment, None)
        _run(calm, experiment, worker.jobs_of(experiment)[0])
        signals = pl.concat(list(PredictionLog.open(calm.predictions).of(worker.TEACHER))).sort("sample_id")
        signals = signals.select("sample_id", "time", "logit_click", "logit_finish")
        shutil.rmtree(calm.root)
        for name, folder, how, could in _cases(Path(place), experiment, rows, signals):
            base, gains = [], []
            for raw, distilled in worker.pairs_of(how)["light"]:
                _run(folder, how, raw)
                about = _run(folder, how, distilled)
                base.append(_ne(folder, raw.name, labels))
                gains.append(_ne(folder, distilled.name, labels) - base[-1])
            low, high = _interval(np.array(gains))
            share = about.sums.signals / (could if could >= 0 else about.sums.learned)
            met &= low <= 0 and share >= 1 - 1e-9  # those that are too late for most come in time at the end, where nothing passes them
            counted = ", ".join(f"{cause} {count:,}" for cause, count in sorted(about.missing.items()) if count)
            gain = f"{np.mean(gains):+.4f} ({low:+.4f} ... {high:+.4f})"
            table.add_row(name, f"{share:.3f}", counted or "-", f"{np.mean(base):.4f}", gain)
            shutil.rmtree(folder.root)
    Console(width=140).print(table)
    print(f"budget all matched that could be, never worse than raw beyond doubt: {'met' if met else 'MISSED'}")
    return 0 if met else 1


def _interval(values: np.ndarray) -> tuple[float, float]:
    draw = np.random.default_rng(0)
    low, high = np.quantile(values[draw.integers(0, len(values), (2000, len(values)))].mean(1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
