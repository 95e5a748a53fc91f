"""A pruned student against one that had its size from the start: `python benchmarks/pruned.py` (about 1 min). Budget:
time of a step and of a prediction, and bytes, 1.00 +- 0.05 each.

A student learns twice as wide, is pruned to half, and then learns the same batches as one of that size, alternately.
Batches are ready beforehand; the two have the same rows.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _common import batches_of, learner_of, paired, report, store_of

from recdistill.compress.importance import Importance
from recdistill.compress.transplant import move_rows, move_weights, moved_optimiser
from recdistill.config.models import StudentConfig
from recdistill.data.batch.builder import BatchBuilder
from recdistill.models.factory import table_modules
from recdistill.models.widths import widths_of
from recdistill.train.learner import Learner

BUDGET = 0.05
STEPS, WARM = 80, 10
STUDENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "din": ({"width": 16}, {"width": 32, "options": {"hidden": [128, 64]}}),
    "dcn-v2": ({"width": 16}, {"width": 32, "options": {"hidden": [128, 64], "crosses": 3}}),
    "target-attention": ({"width": 16}, {"width": 32, "options": {"hidden": [128, 64]}}),
    "hstu": ({"width": 16}, {"width": 32, "options": {"hidden": [128, 64], "layers": 3}}),
}


def pruned(large: Learner, small: Learner) -> Learner:
    """Give the small learner's network the units of the large one's that have the largest norms."""
    units = Importance(large.network, "magnitude").kept(widths_of(small.network).sizes)
    move_weights(large.network, small.network, units)
    move_rows(large.network, small.network, units)
    small.optimiser.state.update(moved_optimiser(large.network, large.optimiser.state, small.network, units))
    return small


def size(learner: Learner) -> int:
    """Return the bytes of its parameters, its tables' rows and its optimiser."""
    dense = [*learner.network.parameters(), *(s for one in learner.optimiser.state.values() for s in one.values())]
    tables = [value for table in table_modules(learner.network) for value in table.state().values()]
    return sum(value.numel() * value.element_size() for value in (*dense, *tables))


def main() -> int:
    """Measure every kind; the budget is for each figure."""
    rows, met = [], True
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), rows=300_000, users=2_000, items=20_000)
        for kind, (own, larger) in STUDENTS.items():
            config = StudentConfig(kind=kind, history=50, **own)
            large, cut, scratch = (
                learner_of(store, one, None) for one in (config.model_copy(update=larger), config, config)
            )
            first = len(store) - config.batch * (STEPS + WARM)
            batches = batches_of(store, BatchBuilder(store, config.history), config.batch, first, STEPS + WARM)
            keep = torch.ones(config.batch, dtype=torch.bool)
            for batch in batches[:WARM]:
                large.learn(batch, keep)
            pruned(large, cut)
            for batch in batches[:WARM]:
                cut.learn(batch, keep)
                scratch.learn(batch, keep)
            timed = batches[WARM:]
            step = paired(
                lambda k, to=scratch, of=timed, all_=keep: to.learn(of[k], all_),
                lambda k, to=cut, of=timed, all_=keep: to.learn(of[k], all_),
                STEPS,
            )
            predict = paired(
                lambda k, to=scratch, of=timed: to.predict(of[k]), lambda k, to=cut, of=timed: to.predict(of[k]), STEPS
            )
            ratios = step[2], predict[2], size(cut) / size(scratch)
            met &= all(abs(ratio - 1) <= BUDGET for ratio in ratios)
            rows.append([kind, f"{step[0] * 1e3:.2f}", f"{step[1] * 1e3:.2f}", *(f"{ratio:.3f}" for ratio in ratios)])
    columns = ["student", "scratch ms", "pruned ms", "step", "prediction", "bytes"]
    return report("pruned / scratch, 512 rows a step", columns, rows, met, f"1.00 +- {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
