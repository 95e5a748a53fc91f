"""Distilling from the first streaming step, or from mid-way on: `python benchmarks/reliability/hybrid.py [SEEDS]` (5).

Rec-Distill (2605.29755, figure 5) says that what is switched on later never catches up. The demo's simulated world, streamed from its
first row: a teacher, and per seed three students equal in everything but what they hear: nothing (raw), the teacher from the
first row on, the teacher from the middle on (its versions before are quarantined). Each figure is the difference to the raw
student of the same seed in NE over a tenth of the stream, said before it was learned; mean and 95 % interval over seeds.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
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
from recdistill.stream.about import IngestAbout, to_metadata
from recdistill.stream.journal import Journal
from recdistill.stream.setup import run_model
from recdistill.tables import EventLog, PredictionLog, VerdictLog

__all__ = ["main"]

ROWS, COMMIT, WINDOWS = 200_000, 5_000, 10
VERSION = 10_000  # rows per version of the teacher
CONFIG = f"""
name: hybrid
data: {{reader: simulator, options: {{rows: {ROWS}, users: 500, items: 100, topics: 20, topics_liked: 3, seed: 7}}}}
teacher: {{kind: target-attention, width: 64, history: 200, batch: 64, table_rate: 2.0e-2}}
students:
  light: {{kind: target-attention, width: 16, history: 100, batch: 64, table_rate: 2.0e-2, distill: {{weight: 4.0}}}}
stream: {{checkpoint_rows: {VERSION}, commit_rows: 20000, wait_s: 1.0e+9}}
"""


def _prepare(root: Path, experiment: Experiment) -> tuple[RunFolder, np.ndarray]:
    """Write the log as a stream, and let the teacher follow it; return the labels in order, too."""
    folder, log = RunFolder(root), open_log(experiment.data, None)
    events = EventLog.create(folder.tables / "events", log.schema)
    PredictionLog.create(folder.predictions, log.schema.tasks)
    VerdictLog.create(folder.verdicts)
    events.mark("handover", 0, {})
    rows = pl.concat(list(log.batches()))
    for number, at in enumerate(range(0, len(rows), COMMIT)):
        part = rows[at : at + COMMIT]
        about = IngestAbout(watermark=int(part["time"].dt.epoch("us").max()), end=at + COMMIT >= len(rows))  # type: ignore[arg-type]
        events.append(part, writer="ingest", sequence=number, new_ids=True, metadata=to_metadata(about))
    run_model(folder, experiment, worker.jobs_of(experiment)[0], Journal(folder.logs, worker.TEACHER))
    return folder, rows["label_click"].to_numpy()


def _allow(folder: RunFolder, first: int) -> None:
    """Let students hear the teacher's versions from `first` on, and none before."""
    verdicts = VerdictLog.open(folder.verdicts)
    rows = [VerdictLog.row(worker.TEACHER, version, "good" if version >= first else "quarantined", rows=ROWS)
            for version in range(ROWS // VERSION + 1)]  # fmt: skip
    verdicts.append(pl.concat(rows), writer="gate", sequence=0)


def _losses(folder: RunFolder, model: str, labels: np.ndarray) -> np.ndarray:
    """Return the NE of what a model said, by window."""
    said = pl.concat(list(PredictionLog.open(folder.predictions).of(model, columns=["sample_id", "logit_click"]))).sort("sample_id")
    z, y = said["logit_click"].to_numpy().astype(np.float64), labels.astype(np.float64)
    loss = np.logaddexp(0, z) - y * z
    windows = [np.arange(len(y))[part] for part in np.array_split(np.arange(len(y)), WINDOWS)]
    rates = [y[window].mean() for window in windows]
    return np.array([loss[w].mean() / -(r * np.log(r) + (1 - r) * np.log1p(-r)) for w, r in zip(windows, rates, strict=True)])


def main() -> int:
    """Run; the exit code is 0 when from the first step on is at least as good at the end, beyond doubt or not."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    experiment = load_text(CONFIG, [f"evaluate.seeds={list(range(seeds))}"])
    found: dict[str, list[np.ndarray]] = {"from the first step": [], "from mid-way": []}
    with tempfile.TemporaryDirectory() as place:
        first, labels = _prepare(Path(place) / "first", experiment)
        shutil.copytree(first.root, Path(place) / "later")
        later = RunFolder(Path(place) / "later")
        _allow(first, 0)
        _allow(later, ROWS // VERSION // 2)
        for raw, distilled in worker.pairs_of(experiment)["light"]:
            run_model(first, experiment, raw, Journal(first.logs, raw.name))
            base = _losses(first, raw.name, labels)
            for name, folder in zip(found, (first, later), strict=True):
                run_model(folder, experiment, distilled, Journal(folder.logs, distilled.name))
                found[name].append(_losses(folder, distilled.name, labels) - base)
    return _tell({name: np.array(values) for name, values in found.items()})


def _tell(found: dict[str, np.ndarray]) -> int:
    table = Table("tenth of the stream", *found, "first - mid-way", title="NE less the raw student's, mean over seeds and 95 % interval")
    early, late = found.values()
    for k in range(WINDOWS):
        table.add_row(str(k + 1), *(_interval(values[:, k]) for values in (early, late, early - late)))
    Console(width=120).print(table)
    ahead = float((early - late)[:, -1].mean()) <= 0
    print(f"at the end, from the first step on is {'ahead' if ahead else 'not ahead'}")
    return 0 if ahead else 1


def _interval(values: np.ndarray) -> str:
    draw = np.random.default_rng(0)
    means = values[draw.integers(0, len(values), (2000, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():+.4f} ({low:+.4f} ... {high:+.4f})"


if __name__ == "__main__":
    sys.exit(main())
