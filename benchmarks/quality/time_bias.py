"""Whether HSTU needs its relative time bias: `python benchmarks/quality/time_bias.py --data DATA` (8 min of one core).

The scaling study of HSTU (2412.00714) calls relative attention bias, mainly that of time, what lets it grow. Here HSTU
learns from labels alone, with position and time or with position alone, in small and larger sizes and from paired
seeds, on the first rows of three public logs; the later half is scored. Per log and size: GAUC and NE of both, and the
gain of the time bias with its 95 % interval over users and seeds (larger is better for both). No budget: a table. Not
part of `make bench`, for it needs the logs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from _common import report

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_file
from recdistill.evaluate.transferability import bootstrap, draw_all, over_seeds
from recdistill.evaluate.window import Frame, load_window, logits_of
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, pairs_of
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from recdistill.typing import Array

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = {"globo": 100_000, "trivago": 100_000, "movielens-100k": 50_000}
SIZES = {"1 layer, width 16": (1, 16), "2 layers, width 32": (2, 32), "4 layers, width 64": (4, 64)}
BIASES = {"with": "[position, time]", "without": "[position]"}
SEEDS, HISTORY, BATCH, REPLICATES, CONFIDENCE = (0, 1, 2), 50, 256, 1000, 0.95


def experiment_of(log: str, rows: int, sizes: dict[str, tuple[int, int]]) -> Experiment:
    """Return an example's log with a student per size and bias, NUMBER-with and NUMBER-without."""
    students = [
        f"s{at}-{name}: {{kind: hstu, width: {width}, history: {HISTORY}, batch: {BATCH},"
        f" options: {{layers: {layers}, heads: 2, bias: {bias}}}}}"
        for at, (layers, width) in enumerate(sizes.values())
        for name, bias in BIASES.items()
    ]
    sets = [
        f"data.limit={rows}",
        f"students={{{', '.join(students)}}}",
        f"evaluate.seeds={list(SEEDS)}",
        f"checkpoint_rows={rows}",
    ]
    return load_file(EXAMPLES / f"{log}.yaml", sets)


def trained(run: RunFolder, experiment: Experiment, jobs: list[Job]) -> None:
    """Train the jobs one after the other."""
    for job in jobs:
        for _ in build.trainer_of(run, experiment, job).run_to_end():
            pass


def replicates(run: RunFolder, frame: Frame, jobs: dict[str, list[Job]]) -> dict[str, dict[str, Array]]:
    """Return per student and metric its mean over the seeds as drawn, float64 [1 + REPLICATES]."""
    predictions, samples = PredictionLog.open(run.predictions), frame.samples
    task = EventLog.open(run.tables / "events").schema.tasks[0]
    drawn = draw_all(samples.users, 1, len(SEEDS), REPLICATES)
    found = {}
    for name, of_seeds in jobs.items():
        logits = [logits_of(predictions, predictions.version, job.name, task, frame.ids, 0.0) for job in of_seeds]
        values = bootstrap(samples, logits, drawn.bundle, drawn.weights)
        found[name] = {metric: over_seeds(values[metric], drawn.students) for metric in ("gauc", "ne")}
    return found


def interval(values: Array) -> str:
    """Return the estimate and its interval, of [1 + REPLICATES]."""
    low, high = np.nanquantile(values[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return f"{values[0]:+.4f} ({low:+.4f} ... {high:+.4f})"


def measure(log: str, rows: int, data: Path, folder: Path) -> list[list[str]]:
    """Return the table's rows of one log."""
    experiment = experiment_of(log, rows, SIZES)
    with open_run(experiment, data, folder, trains=False) as run:
        ingest_stage(run, experiment, data)
        jobs = {name: [raw for raw, _ in pairs] for name, pairs in pairs_of(experiment).items()}
        trained(run, experiment, [job for of_seeds in jobs.values() for job in of_seeds])
        events, evaluate = EventLog.open(run.tables / "events"), experiment.evaluate
        frame = load_window(events, events.version, events.schema.tasks[0], evaluate.start, evaluate.group)
        found = replicates(run, frame, jobs)
    table = []
    for at, size in enumerate(SIZES):
        with_, without = found[f"s{at}-with"], found[f"s{at}-without"]
        cells = [f"{abs(without[m][0]):.4f}, {abs(with_[m][0]):.4f}" for m in ("gauc", "ne")]
        gains = [interval(with_[m] - without[m]) for m in ("gauc", "ne")]
        table.append([log, f"{rows:,}", size, cells[0], gains[0], cells[1], gains[1]])
    return table


def main() -> int:
    """Measure every log, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the logs (docs/howto/public-logs.md)")
    data, rows = parser.parse_args().data, []
    for log, count in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(log, count, data, Path(folder) / "run")
    columns = ("log", "rows", "size", "GAUC without, with", "gain", "NE without, with", "gain (minus NE)")
    return report("HSTU without and with relative time bias", columns, rows, True, "none")


if __name__ == "__main__":
    sys.exit(main())
