"""What K = 4 cross-fitted teachers cost beside 4 trainings of the one: `python benchmarks/crossfit.py` (about a
minute).

The seconds that all folds take, learning and scoring and writing, over 4 x the seconds of one teacher over the same
samples. Budget: <= 1.2. A fold learns from three quarters of them and scores the rest, so less than 1 is to be
expected.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import report

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.load import load_text
from recdistill.runs.jobs import folds_of_teacher, jobs_of
from recdistill.train import build

BUDGET, FOLDS, ROUNDS = 1.2, 4, 3
TEXT = f"""
name: crossfit
data: {{reader: simulator, options: {{rows: 40000, users: 500, items: 100}}}}
teacher: {{kind: target-attention, width: 32, history: 100, batch: 64}}
students: {{light: {{distill: {{signals: crossfit}}}}}}
crossfit: {{folds: {FOLDS}, share: 1.0}}
evaluate: {{start: 0.5, seeds: [0]}}
"""


def measure(folder: Path) -> tuple[float, float]:
    """Return seconds of one teacher, and of all folds, one after the other in this process."""
    experiment = load_text(TEXT)
    with open_run(experiment, None, folder) as run:
        ingest_stage(run, experiment, None)
        teacher, _ = jobs_of(experiment)
        seconds = []
        for jobs in ([teacher], folds_of_teacher(experiment)):
            start = time.perf_counter()
            for job in jobs:
                for _ in build.trainer_of(run, experiment, job).run_to_end():
                    pass
            seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def main() -> int:
    """Measure ROUNDS times and print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        found = np.array([measure(Path(folder) / str(turn)) for turn in range(ROUNDS)])
    ratio = float(np.median(found[:, 1] / found[:, 0] / FOLDS))
    row = [f"{np.median(found[:, 0]):.1f}", f"{np.median(found[:, 1]):.1f}", f"{ratio:.2f}"]
    return report(
        "cross-fitting",
        ("teacher, s", f"{FOLDS} folds, s", f"folds / {FOLDS} teachers"),
        [row],
        ratio <= BUDGET,
        f"<= {BUDGET}",
    )


if __name__ == "__main__":
    sys.exit(main())
