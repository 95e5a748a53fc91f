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

sys.path.insert(0, str(Path(__file__).parent.parent))
from _common import report
from _paired import interval, recorded, replicates, trained

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_file
from recdistill.evaluate.window import load_window
from recdistill.runs.jobs import pairs_of
from recdistill.tables.events import EventLog

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = {"globo": 100_000, "trivago": 100_000, "movielens-100k": 50_000}
SIZES = {"1 layer, width 16": (1, 16), "2 layers, width 32": (2, 32), "4 layers, width 64": (4, 64)}
BIASES = {"with": "[position, time]", "without": "[position]"}
SEEDS, HISTORY, BATCH = (0, 1, 2), 50, 256


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


def measure(log: str, rows: int, data: Path, folder: Path) -> list[list[str]]:
    """Return the table's rows of one log."""
    experiment = experiment_of(log, rows, SIZES)
    with open_run(experiment, data, folder, trains=False) as run:
        ingest_stage(run, experiment, data)
        jobs = {name: [raw for raw, _ in pairs] for name, pairs in pairs_of(experiment).items()}
        trained(run, experiment, [job for of_seeds in jobs.values() for job in of_seeds])
        events, evaluate = EventLog.open(run.tables / "events"), experiment.evaluate
        task = events.schema.tasks[0]
        frame = load_window(events, events.version, task, evaluate.start, evaluate.group)
        found = replicates(frame, {name: recorded(run, frame, of_seeds, task) for name, of_seeds in jobs.items()})
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
