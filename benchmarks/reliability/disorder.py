"""Signals and labels in disorder: `python benchmarks/reliability/disorder.py [SEEDS]` (5). Budget: never below the raw
student.

A real teacher's record is sent again by a scripted one, and the labels come as outcomes of their own. A share (0, 1,
10, 30 %) of the signals, and as large a share of the positive labels, is each of: late (signals by up to a tenth of the
log, labels by up to six hours, beyond their window), early (a signal before its sample, a label with its sample), sent
twice, missing. A student with two towers and its raw twin follow. No student gives up waiting here (a signal later than
the bound is one that is missing), so coverage must be what was sent, to the row. The main tower's progressive
predictions of the second half are compared with the raw student's, pairs of one seed; noise is the wider of the
intervals over seeds and over ten stretches of the log.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from _tables import COMMIT, Recorded, Tables, interval, quality, recorded_by
from rich.console import Console
from rich.table import Table

from recdistill.config.load import load_text
from recdistill.stream.workers.build import stream_checkpoints

__all__ = ["DISORDERS", "main", "outcomes_of", "signals_of"]

SHARES = (0.0, 0.01, 0.1, 0.3)
DISORDERS = ("late", "early", "twice", "missing")
LATE_S, WINDOW_S, STRETCHES = 21_600, 3_600, 10
CONFIG = """
name: disorder
data: {{reader: simulator, options: {{rows: {rows}, users: 200, items: 300,
   topics: 40, topics_liked: 4, days: 5.0, delay_minutes: 5}}}}
teacher: {{kind: target-attention, width: 16, history: 100, batch: 100}}
students:
  light: {{kind: pooled-mlp, width: 8, history: 20, batch: 100, distill: {{weight: 1.0}}}}
evaluate: {{seeds: {seeds}}}
stream:
  {{checkpoint_rows: 2000, commit_rows: {commit}, wait_s: 1.0e+9, late_s: 1.0e+9}}
labels: {{window_s: {window}}}
"""


@dataclass(frozen=True)
class Counts:
    """Samples a student learned, those with a signal, samples that a signal was sent about, and what it missed by
    cause.

    open: samples of the last label window, of which the end of the stream leaves some undecided.
    """

    learned: int
    signals: int
    sent: int
    open: int
    missing: dict[str, int]

    def whole(self, rows: int) -> bool:
        """Return whether all rows with a decided label were learned, each with the signal that was sent or
        none, as counted.
        """
        decided, absent = rows - self.open <= self.learned <= rows, self.missing.get("absent", 0)
        return decided and self.signals + absent == self.learned and self.sent - self.open <= self.signals <= self.sent


def signals_of(
    recorded: list[Recorded], disorder: str, share: float, draw: np.random.Generator, end: int
) -> list[Recorded]:
    """Return a teacher's commits in another order: `share` of the rows of each late, early, twice or missing."""
    rows = pl.concat(
        [one.rows.with_columns(commit=pl.lit(k), version=pl.lit(one.version)) for k, one in enumerate(recorded)]
    )
    chosen = draw.random(len(rows)) < share
    moved = rows.filter(pl.Series(chosen))
    rest = rows if disorder == "twice" else rows.filter(pl.Series(~chosen))
    steps = draw.integers(1, 1 + max(len(recorded) // 10, 1), len(moved)) * (-1 if disorder == "early" else 1)
    if disorder != "missing":
        rest = pl.concat(
            [rest, moved.with_columns(commit=(pl.col("commit") + pl.Series(steps)).clip(0, end).cast(pl.Int32))]
        )
    rest, found = rest.unique(["commit", "sample_id"], keep="first", maintain_order=True), []
    for (commit, version), part in sorted(rest.group_by("commit", "version", maintain_order=True)):
        # type: ignore[call-overload]
        found.append(Recorded(int(version), part.drop("commit", "version"), recorded[int(commit)].metadata))
    return found


def outcomes_of(rows: pl.DataFrame, disorder: str, share: float, draw: np.random.Generator) -> pl.DataFrame:
    """Return the labels as outcomes in order of arrival; `arrived` is the event time at which each is there."""
    known = rows.filter(pl.col("label_click") == 1).with_columns(known=pl.coalesce("label_time_click", "time"))
    chosen = pl.Series(draw.random(len(known)) < share)
    delay = pl.Series(
        [timedelta(seconds=float(s)) for s in draw.uniform(0, LATE_S, len(known))], dtype=pl.Duration("us")
    )
    if disorder == "late":
        known = known.with_columns(known=pl.when(chosen).then(pl.col("known") + delay).otherwise("known"))
    elif disorder == "early":
        known = known.with_columns(known=pl.when(chosen).then("time").otherwise("known"))
    elif disorder == "missing":
        known = known.filter(~chosen)
    else:
        known = pl.concat([known, known.filter(chosen).with_columns(known=pl.col("known") + timedelta(seconds=60))])
    outcomes = known.select("sample_id", task=pl.lit("click"), label="label_click", time="known", arrived="known")
    return outcomes.sort("arrived", maintain_order=True)


def measure(place: Path, teacher: Tables, disorder: str, share: float, seeds: int) -> tuple[Counts, np.ndarray]:
    """Run the pairs of students; return the counts of the first, and the differences to the raw ones
    [seeds, stretches, (NE, AUC)].
    """
    draw = np.random.default_rng(1)
    run = Tables(place, teacher.experiment)
    hidden = [
        pl.lit(None).cast(run.rows.schema[name]).alias(name) for name in run.rows.columns if name.startswith("label_")
    ]
    run.ingest(run.rows.with_columns(hidden), outcomes_of(run.rows, disorder, share, draw))
    recorded = recorded_by(teacher)
    sent = signals_of(recorded, disorder, share, draw, len(recorded) - 1)
    run.record(sent)
    run.verdict(range(len(run.rows) // 2000 + 1), "approved")
    found = []
    for seed in range(seeds):
        sides = []
        for kind in ("raw", "distilled"):
            run.run(f"light.{kind}.s{seed}")
            label, logit = run.labels(), run.logits(f"light.{kind}.s{seed}")
            cuts = np.array_split(np.arange(len(label) // 2, len(label)), STRETCHES)
            sides.append([quality(label[cut], logit[cut]) for cut in cuts])
        found.append(np.subtract(sides[1], sides[0]))
    return _counts(run, pl.concat([commit.rows["sample_id"] for commit in sent]).n_unique()), np.array(found)


def noise(differences: np.ndarray) -> tuple[float, float]:
    """Return (mean, half width) of differences [seeds, stretches]: the wider interval of the two ways to repeat."""
    over_seeds, over_time = interval([*differences.mean(1)]), interval([*differences.mean(0)])
    return over_seeds[0], max(over_seeds[1], over_time[1])


def _counts(run: Tables, sent: int) -> Counts:
    latest = stream_checkpoints(run.folder, "light.distilled.s0").latest()
    if latest is None:
        raise SystemExit("no checkpoint")
    state = latest[1].state
    missing = {key: int(value) for key, value in state["parts"]["joiner"]["missing"].items() if value}
    undecided = run.rows["time"] > run.rows["time"].max() - timedelta(seconds=WINDOW_S)  # type: ignore[operator]
    return Counts(
        int(state["sums"]["learned"]), int(state["sums"].get("signals", 0)), sent, int(undecided.sum()), missing
    )


def main() -> int:
    """Measure every disorder at every share; the exit code is 0 when the budget is met."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rows = 30_000 if seeds >= 5 else 4_000
    config = CONFIG.format(rows=rows, seeds=[*range(seeds)], commit=COMMIT, window=WINDOW_S)
    table = Table(
        "disorder",
        "share",
        "sent",
        "coverage",
        "learned without, and signals without use",
        "NE - raw",
        "AUC - raw",
        title=f"{rows:,} rows, {seeds} paired seeds, second half, 95 % interval",
    )
    met = True
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        teacher = Tables(place / "teacher", load_text(config, ["labels.window_s=null"]))
        teacher.ingest(teacher.rows)
        teacher.run("teacher")
        teacher.experiment = load_text(config)
        cases = [("none", 0.0), *((disorder, share) for disorder in DISORDERS for share in SHARES[1:])]
        for disorder, share in cases if seeds >= 5 else [("none", 0.0), *((disorder, 0.3) for disorder in DISORDERS)]:
            counts, found = measure(place / f"{disorder}-{share}", teacher, disorder, share, seeds)
            (ne, ne_half), (auc, auc_half) = noise(found[..., 0]), noise(found[..., 1])
            met &= ne - ne_half <= 0 and auc + auc_half >= 0 and counts.whole(rows)
            causes = ", ".join(f"{value} {key}" for key, value in sorted(counts.missing.items()))
            table.add_row(
                disorder,
                f"{share:.0%}",
                f"{counts.sent / rows:.1%}",
                f"{counts.signals / counts.learned:.1%}",
                causes,
                f"{ne:+.4f} +- {ne_half:.4f}",
                f"{auc:+.4f} +- {auc_half:.4f}",
            )
    Console(width=150).print(table)
    print(
        "budget coverage exactly what was sent, the main tower never below the raw student beyond noise: "
        f"{'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
