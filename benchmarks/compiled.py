"""Whether torch.compile makes a step cheaper on a CPU: `python benchmarks/compiled.py` (4 min; needs a C++ compiler).
Budget: it stays left out as long as there is a model whose compiled step does not take less than 0.9 of a plain one.

Two learners with equal weights take the same steps, alternately; of one the network up to its last hidden layer is
compiled, forward and backward, for sizes that change from batch to batch. What compiling itself takes is not in a step.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from _common import batches_of, learner_of, paired, report, store_of
from torch._inductor.exc import InductorError

from recdistill.config.models import StudentConfig
from recdistill.data.batch.builder import BatchBuilder

BUDGET = 0.9
STEPS, WARM = 60, 10
MODELS = {
    "din 16, 50 events, 512 rows": StudentConfig(kind="din", width=16, history=50),
    "dcn-v2 32, 512 rows": StudentConfig(kind="dcn-v2", width=32, history=20),
    "target-attention 64, 200 events, 128 rows": StudentConfig(
        kind="target-attention", width=64, history=200, batch=128
    ),
    "hstu 64, 100 events, 128 rows": StudentConfig(kind="hstu", width=64, history=100, batch=128),
    "token-mixer 64, 128 rows": StudentConfig(kind="token-mixer", width=64, history=50, batch=128),
}


def main() -> int:
    """Measure every model, and print the table."""
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), rows=100_000, users=2_000, items=20_000)
        for name, config in MODELS.items():
            plain, compiled = learner_of(store, config, None), learner_of(store, config, None)
            compiled.network.shared = torch.compile(compiled.network.shared, dynamic=True)
            first = len(store) - config.batch * (STEPS + WARM)
            builder = BatchBuilder(store, config.history, None)
            batches = batches_of(store, builder, config.batch, first, STEPS + WARM)
            keep, start = torch.ones(config.batch, dtype=torch.bool), time.perf_counter()
            try:
                for batch in batches[:WARM]:
                    compiled.learn(batch, keep)
                    plain.learn(batch, keep)
            except InductorError:  # what it wrote in C++ does not compile
                rows.append([name, "", "", "torch's compiler fails", f"{time.perf_counter() - start:.0f}"])
                continue
            seconds, timed = time.perf_counter() - start, batches[WARM:]
            one, other, ratio = paired(
                lambda k, to=plain, of=timed, all_=keep: to.learn(of[k], all_),
                lambda k, to=compiled, of=timed, all_=keep: to.learn(of[k], all_),
                STEPS,
            )
            ratios.append(ratio)
            rows.append([name, f"{one * 1e3:.1f}", f"{other * 1e3:.1f}", f"{ratio:.2f}", f"{seconds:.0f}"])
    columns = ["model", "plain ms", "compiled ms", "ratio", f"first {WARM} steps, s"]
    return report(
        "a step, compiled", columns, rows, len(ratios) < len(MODELS) or max(ratios) >= BUDGET, f"a model >= {BUDGET}"
    )


if __name__ == "__main__":
    sys.exit(main())
