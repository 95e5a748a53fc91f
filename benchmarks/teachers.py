"""What `recdistill plan` predicts against what is measured, and one history for many candidates: `python
benchmarks/teachers.py` (1 minute).

Each preset learns a step on one user's full history, in a process of its own. Time: FLOPs of the plan over the seconds
it takes, as a share of this machine's matrix product. Memory: peak against the plan's weights, gradients, moments and
what is kept for the backward pass. Budget: measured / planned memory within 0.5 and 2, where 50 MiB or more are
planned. A history of 20,000 events must train.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from _common import report
from attention import gemm, high_water

from recdistill.config.models import StudentConfig
from recdistill.data.batch.ages import SECOND
from recdistill.data.batch.batch import Batch, History, Lookup
from recdistill.data.batch.numbers import NUMBERS
from recdistill.models.flops import cost_of
from recdistill.models.heads import Towers
from recdistill.train.learner import Learner
from recdistill.train.memory_check import DENSE_BYTES, backbone_of, countable

NAMES = ("1m", "10m", "100m", "ultra-2m")
FIELDS, ROUNDS, MAX_RATIO, MIN_RATIO, MIN_MEMORY = 8, 3, 2.0, 0.5, 50
CANDIDATES = (1, 100, 1000)


def config_of(name: str) -> StudentConfig:
    """Return a preset as a model that is trained by itself."""
    return StudentConfig.model_validate({"preset": name})


def learner_of(config: StudentConfig) -> Learner:
    """Return the preset's learner over a log that is not there."""
    torch.manual_seed(0)
    return Learner(Towers(backbone_of(config, 0, FIELDS, 0, 1), 1), config)


def batch_of(events: int, samples: int) -> Batch:
    """Return one user's history of `events` different items, and `samples` candidates."""
    draw = np.random.default_rng(0)
    items = Lookup(torch.arange(events + 1), torch.arange(1, events + 1))
    ago = torch.arange(events).flip(0).add(1) * SECOND
    zeros = torch.zeros(events, dtype=torch.int64)
    history = History(
        items.unique, items.inverse, ago, zeros, torch.tensor([0, events]), torch.zeros(samples, dtype=torch.int64)
    )
    column = Lookup(torch.arange(samples + 1), torch.arange(1, samples + 1))
    context = Lookup(torch.arange(FIELDS + 1), torch.arange(1, FIELDS + 1).expand(samples, FIELDS))
    labels = torch.from_numpy(draw.integers(0, 2, (samples, 1)).astype(np.float32))
    empty = Lookup(torch.zeros(1, dtype=torch.int64), torch.zeros(samples, 0, dtype=torch.int64))
    return Batch(
        torch.arange(samples),
        column,
        Lookup(torch.arange(2), torch.ones(samples, dtype=torch.int64)),
        context,
        empty,
        history,
        torch.zeros(samples, NUMBERS),
        labels,
        torch.full((samples, 1), float("nan")),
    )


def measure(name: str) -> None:
    """Print seconds of a step and MiB that building and learning took, in this process."""
    torch.set_num_threads(1)
    config = config_of(name)
    learner_of(StudentConfig(kind=config.kind, history=64)).learn(batch_of(64, 1), torch.ones(1, dtype=torch.bool))
    before = high_water()
    learner, batch, keep = learner_of(config), batch_of(config.history, 1), torch.ones(1, dtype=torch.bool)
    learner.learn(batch, keep)
    taken, seconds = high_water() - before, []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        learner.learn(batch, keep)
        seconds.append(time.perf_counter() - start)
    print(statistics.median(seconds), taken)


def planned(name: str) -> tuple[int, float, float]:
    """Return (dense parameters, FLOPs of a step, MiB) as counted, with nothing allocated."""
    config = config_of(name)
    cost = cost_of(countable(config, FIELDS, 0, 1), config.history)
    return cost.dense_parameters, cost.step_flops, (DENSE_BYTES * cost.dense_parameters + cost.activation_bytes) / 2**20


def scored_together() -> list[list[str]]:
    """Return candidates per second of an ultra-2m teacher against one history of 20,000 events, by how many
    share its encoding.
    """
    config = config_of("ultra-2m")
    learner, rows = learner_of(config), []
    for count in CANDIDATES:
        batch = batch_of(config.history, count)
        start = time.perf_counter()
        learner.predict(batch)
        seconds = time.perf_counter() - start
        rows.append([f"{count:,}", f"{seconds:.2f}", f"{count / seconds:,.1f}"])
    return rows


def main() -> int:
    """Measure every preset, and print both tables."""
    peak, rows, ratios = gemm(), [], []
    for name in NAMES:
        code = f"import sys; sys.path.insert(0, {str(sys.path[0])!r}); import teachers; teachers.measure({name!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, taken = map(float, done.stdout.split())
        dense, flops, memory = planned(name)
        ratios += [taken / memory] if memory >= MIN_MEMORY else []
        rows.append(
            [
                name,
                f"{config_of(name).history:,}",
                f"{dense / 1e6:.1f}",
                f"{flops / 1e9:.2f}",
                f"{seconds:.2f}",
                f"{flops / seconds / peak:.2f}",
                f"{memory:,.0f}",
                f"{taken:,.0f}",
                f"{taken / memory:.2f}",
            ]
        )
    columns = ("preset", "events", "M dense", "GFLOP a step", "seconds", "of GEMM", "MiB planned", "measured", "ratio")
    met = all(MIN_RATIO <= ratio <= MAX_RATIO for ratio in ratios)
    title, budget = (
        f"a step on one history; GEMM {peak / 1e9:.0f} GFLOP/s",
        f"memory within {MIN_RATIO:g} and {MAX_RATIO:g}",
    )
    failed = report(title, columns, rows, met, budget)
    columns = ("candidates", "seconds", "candidates/s")
    return failed | report("one history of 20,000 events, ultra-2m", columns, scored_together(), True, "none")


if __name__ == "__main__":
    sys.exit(main())
