"""Distilling from the first streaming step against switching it on mid-way: `python benchmarks/reliability/hybrid.py
[SEEDS]` (5).

One teacher streams over a simulated log from its first row. A student learns from all of its signals; another, equal in
seed, initial weights and data, from none of the first half (those versions are barred); the raw one from none. What
each predicted before it learned is compared over ten stretches of the log, pairs of one seed. There is no budget: it
prints what it finds, "never catches up" or not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from _tables import COMMIT, Tables, interval, quality, recorded_by
from rich.console import Console
from rich.table import Table

from recdistill.config.load import load_text

__all__ = ["main", "progress"]

ROWS, VERSION, STRETCHES = 200_000, 2_000, 10
CONFIG = """
name: hybrid
data: {{reader: simulator, options: {{rows: {rows}, users: 500, items: 100, topics: 20, topics_liked: 3, seed: 7}}}}
teacher: {{kind: target-attention, width: 64, history: 200, batch: 64, table_rate: 2.0e-2}}
students:
  light: {{kind: target-attention, width: 16, history: 100, batch: 64, table_rate: 2.0e-2, distill: {{weight: 4.0}}}}
evaluate: {{seeds: {seeds}}}
stream: {{checkpoint_rows: {version}, commit_rows: {commit}, wait_s: 1.0e+9}}
"""
Array = np.ndarray


def progress(tables: Tables, model: str) -> Array:
    """Return the (NE, AUC) of each stretch of the log, float64 [STRETCHES, 2]."""
    label, logit = tables.labels(), tables.logits(model)
    cuts = np.array_split(np.arange(len(label)), STRETCHES)
    return np.array([quality(label[cut], logit[cut]) for cut in cuts])


def measure(place: Path, rows: int, seeds: int) -> dict[str, list[Array]]:
    """Run every student on both streams; return the progress by side, seed by seed, and the teacher's."""
    experiment = load_text(CONFIG.format(rows=rows, seeds=[*range(seeds)], version=VERSION, commit=COMMIT))
    first = Tables(place / "first", experiment)
    first.ingest(first.rows)
    teacher = first.copy(place / "teacher")
    teacher.run("teacher")
    versions = range(rows // VERSION)
    found: dict[str, list[Array]] = {
        "raw": [],
        "from the first step": [],
        "from the middle": [],
        "teacher": [progress(teacher, "teacher")],
    }
    first.record(recorded_by(teacher))
    late = first.copy(place / "late")
    first.verdict(versions, "approved")
    late.verdict(versions[len(versions) // 2 :], "approved")
    late.verdict(versions[: len(versions) // 2], "quarantined")
    for seed in range(seeds):
        raw, distilled = f"light.raw.s{seed}", f"light.distilled.s{seed}"
        for side, tables, model in (
            ("raw", first, raw),
            ("from the first step", first, distilled),
            ("from the middle", late, distilled),
        ):
            tables.run(model)
            found[side].append(progress(tables, model))
    return found


def main() -> int:
    """Measure and print; the exit code is 0."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rows = ROWS if seeds >= 5 else 6_000
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), rows, seeds)
    console = Console(width=140)
    for k, metric in enumerate(("progressive NE (less is better)", "progressive AUC")):
        table = Table(
            "rows",
            "teacher",
            "raw",
            "from the first step",
            "from the middle",
            "first - raw",
            "middle - first",
            title=f"{metric}, {seeds} paired seeds, 95 % interval",
        )
        for at in range(STRETCHES):
            sides = {side: [run[at, k] for run in runs] for side, runs in found.items()}
            pairs = (("from the first step", "raw"), ("from the middle", "from the first step"))
            gains = [interval([a - b for a, b in zip(sides[one], sides[other], strict=True)]) for one, other in pairs]
            means = [
                f"{np.mean(sides[side]):.4f}" for side in ("teacher", "raw", "from the first step", "from the middle")
            ]
            table.add_row(
                f"{(at + 1) * rows // STRETCHES:,}", *means, *(f"{mean:+.4f} +- {half:.4f}" for mean, half in gains)
            )
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
