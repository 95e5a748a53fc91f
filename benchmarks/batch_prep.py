"""What preparing batches costs next to learning: `python benchmarks/batch_prep.py` (about 30 s). Budget: <= 0.10.

`alone` is gather, join and tensors in the loop's own thread, against the model's step. `waited` is what the loop
notices of it with the background thread that training uses: seconds waiting for a batch, against the steps; the
budget is for that.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _common import learner_of, paired, report, store_of

from recdistill.config.models import DistillConfig, StudentConfig
from recdistill.data.batch.builder import BatchBuilder, prefetch

BUDGET = 0.10
STEPS, WARM = 100, 10
STUDENTS = {
    "din 16, 50 events": StudentConfig(kind="din", width=16, history=50),
    "target-attention 16, 50 events": StudentConfig(kind="target-attention", width=16, history=50),
    "target-attention 8, 20 events": StudentConfig(kind="target-attention", width=8, history=20),
}


def main() -> int:
    """Measure every student; the budget is for each."""
    rows, met = [], True
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), rows=200_000, users=2_000, items=20_000)
        signals = np.random.default_rng(0).normal(-1.4, 1.0, (len(store), 1)).astype(np.float32)
        for name, config in STUDENTS.items():
            learner, builder = learner_of(store, config, DistillConfig()), BatchBuilder(store, config.history, signals)
            keep = torch.ones(config.batch, dtype=torch.bool)
            first = len(store) - config.batch * (STEPS + WARM)
            work = [np.arange(first + k * config.batch, first + (k + 1) * config.batch) for k in range(STEPS + WARM)]
            for some in work[:WARM]:
                learner.learn(builder.build(some), keep)
            built = [builder.build(some) for some in work[WARM:]]
            step, build, alone = paired(
                lambda k, to=learner, of=built, all_=keep: to.learn(of[k], all_),
                lambda k, by=builder, of=work: by.build(of[WARM + k]),
                STEPS,
            )
            waits, steps, clock = [], [], time.perf_counter()
            for batch in prefetch(builder.build, work[WARM:]):
                ready = time.perf_counter()
                learner.learn(batch, keep)
                waits.append(ready - clock)
                clock = time.perf_counter()
                steps.append(clock - ready)
            waited = sum(waits[1:]) / sum(steps[1:])
            met &= waited <= BUDGET
            slower = statistics.median(steps) / step
            rows.append(
                [name, f"{build * 1e3:.2f}", f"{step * 1e3:.2f}", f"{alone:.3f}", f"{waited:.3f}", f"{slower:.2f}"]
            )
    columns = ["student", "build ms", "step ms", "alone", "waited", "step with the thread / alone"]
    return report("batches of 512 rows", columns, rows, met, f"waited <= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
