"""What distillation adds to a student's step: `python benchmarks/step_ratio.py` (about 30 s). Budget: ratio <= 1.10.

Two students with equal weights learn from the same batches, alternately: one with a single tower and labels
alone, one with decoupled towers and a teacher's signal on every row. Batches are ready beforehand.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _common import batches_of, learner_of, paired, report, store_of

from recdistill.config.models import DistillConfig, StudentConfig
from recdistill.data.batch.builder import BatchBuilder

BUDGET = 1.10
STEPS, WARM = 100, 10
STUDENTS = {
    "din 16, 50 events": StudentConfig(kind="din", width=16, history=50),
    "target-attention 16, 50 events": StudentConfig(kind="target-attention", width=16, history=50),
    "pooled-mlp 16, 20 events": StudentConfig(kind="pooled-mlp", width=16, history=20),
}


def main() -> int:
    """Measure every student; the budget is for each."""
    rows, met = [], True
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), rows=200_000, users=2_000, items=20_000)
        signals = np.random.default_rng(0).normal(-1.4, 1.0, (len(store), 1)).astype(np.float32)
        for name, config in STUDENTS.items():
            raw, distilled = learner_of(store, config, None), learner_of(store, config, DistillConfig())
            first = len(store) - config.batch * (STEPS + WARM)
            builder = BatchBuilder(store, config.history, signals)
            batches = batches_of(store, builder, config.batch, first, STEPS + WARM)
            keep = torch.ones(config.batch, dtype=torch.bool)
            for batch in batches[:WARM]:
                raw.learn(batch, keep)
                distilled.learn(batch, keep)
            timed = batches[WARM:]
            one, other, ratio = paired(
                lambda k, to=raw, of=timed, all_=keep: to.learn(of[k], all_),
                lambda k, to=distilled, of=timed, all_=keep: to.learn(of[k], all_),
                STEPS,
            )
            met &= ratio <= BUDGET
            rows.append([name, f"{one * 1e3:.2f}", f"{other * 1e3:.2f}", f"{ratio:.3f}"])
    return report("one step of 512 rows", ["student", "raw ms", "distilled ms", "ratio"], rows, met, f"<= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
