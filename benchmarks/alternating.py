"""What alternate growth and pruning saves of the time of training: `python benchmarks/alternating.py` (about 1 min).
No budget: the operations saved are known, and how much of them a processor saves in time is the question.

A student of full width and one of half that width, as in the shrunken part of a cycle, learn the same batches
alternately. A student that spends half of its steps at half the width takes (1 + half / full) / 2 of the time; going
from one width to the other and back is timed as well, and counted once per `EVERY` steps.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from _common import batches_of, learner_of, paired, report, store_of
from pruned import STUDENTS, pruned

from recdistill.config.models import StudentConfig
from recdistill.data.batch.builder import BatchBuilder
from recdistill.train.learner import Learner

STEPS, WARM, EVERY = 60, 10, 600  # `EVERY` steps: a cycle of four blocks of 10,000 rows in batches of 64


def seconds_of_change(full: Learner, half: Learner) -> float:
    """Return the median time of moving all units of one learner to another, measured in the dearer direction."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        pruned(full, half)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> int:
    """Measure every kind, in batches of 64 and of 512 rows."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), rows=300_000, users=2_000, items=20_000)
        for kind, (own, larger) in STUDENTS.items():
            for size in (64, 512):
                config = StudentConfig(kind=kind, history=50, batch=size, **own)
                full = learner_of(store, config.model_copy(update=larger), None)
                half = learner_of(store, config, None)
                first = len(store) - size * (STEPS + WARM)
                batches = batches_of(store, BatchBuilder(store, config.history), size, first, STEPS + WARM)
                keep = torch.ones(size, dtype=torch.bool)
                for batch in batches[:WARM]:
                    full.learn(batch, keep)
                    half.learn(batch, keep)
                timed = batches[WARM:]
                step = paired(
                    lambda k, to=full, of=timed, all_=keep: to.learn(of[k], all_),
                    lambda k, to=half, of=timed, all_=keep: to.learn(of[k], all_),
                    STEPS,
                )
                change = 2 * seconds_of_change(full, half) / (EVERY * step[0])
                figures = (f"{step[0] * 1e3:.2f}", f"{step[1] * 1e3:.2f}", f"{step[2]:.2f}", f"{change:.3f}")
                rows.append([kind, str(size), *figures, f"{(1 + step[2]) / 2 + change:.2f}"])
    columns = ["student", "batch", "full ms", "half ms", "half / full", "changes / full", "alternating / full"]
    return report("half of the steps at half the width (16 of 32)", columns, rows, True, "none")


if __name__ == "__main__":
    sys.exit(main())
