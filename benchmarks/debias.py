"""Debias by known probabilities: `python benchmarks/debias.py` (about 40 seconds). Budget: predicted / observed within
1 %.

On the simulator, a teacher that learns from a tenth of the negatives and students that learn from half of them, trained
by the loop of every run. All figures are of what each tower predicted before it learned, over the second half of the
log.

predicted / observed: before and after each model's own log(k+ / k-) is taken out of its logits, and the deviation that
two draws bring to whoever knows the probabilities: of the negatives that are kept, and of the labels it is measured by.
predicted / true: against the simulator's probabilities. still off: the constant in log-odds that would make that ratio
1. The budget is for what is served, the students' main towers; the auxiliary ones show which space is right.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import report

from recdistill.config.data import DataConfig, SamplingConfig
from recdistill.config.experiment import EvaluateConfig, Experiment
from recdistill.config.models import DistillConfig, PaperConfig, StudentConfig, TeacherConfig
from recdistill.data.readers.simulator import Simulator, SimulatorConfig
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.evaluate import metrics
from recdistill.runs.batch_ingest import ingest, open_tables
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, jobs_of
from recdistill.runs.names import TEACHER, ModelName
from recdistill.signals.columns import join_column
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from recdistill.typing import Array

BUDGET = 0.01
WORLD = SimulatorConfig(rows=1_600_000, users=2_000, items=2_000, seed=11)


@dataclass(frozen=True)
class Tower:
    """A tower's predictions: raw logits [N] of the window, and the offset, log(1 / k-), that sampling left in them."""

    name: str
    logits: Array
    log_odds_offset: float


@dataclass(frozen=True)
class Window:
    """label and true probability [N] of a click on each sample of the window."""

    label: Array
    probability: Array

    def observed(self, tower: Tower, corrected: bool) -> float:
        """Return predicted / observed."""
        return metrics.calibration(self.label, tower.logits - tower.log_odds_offset * corrected)

    def true(self, tower: Tower) -> float:
        """Return predicted / true, corrected."""
        return float(metrics.probability(tower.logits - tower.log_odds_offset).sum() / self.probability.sum())

    def noise(self, tower: Tower) -> float:
        """Return one deviation of predicted / observed for a model that fits its draw of the negatives perfectly.

        The draw of the labels adds its own: the model predicted before it saw them.
        """
        kept, variance = np.exp(-tower.log_odds_offset), self.probability * (1 - self.probability)
        log_odds = np.sqrt((1 - kept) / kept / (1 - self.label).sum())
        return float(np.hypot(log_odds * variance.sum(), np.sqrt(variance.sum())) / self.probability.sum())

    def off(self, tower: Tower) -> float:
        """Return the constant by which the corrected log-odds are too high, by bisection to 1e-4."""
        low, high = -8.0, 8.0
        while high - low > 1e-4:
            middle = (low + high) / 2
            high, low = (
                (middle, low)
                if self.true(Tower("", tower.logits, tower.log_odds_offset + middle)) < 1
                else (high, middle)
            )
        return low


def spaces() -> dict[str, DistillConfig]:
    """Return the spaces by name; the paper's with some r_+ and b_s, which are not known, in both readings."""
    some = {"nominal_retention": 0.95, "bias": 0.05}
    paper = {reading: PaperConfig(reading=reading, **some) for reading in ("outside", "inside")}
    return {
        "posterior": DistillConfig(space="posterior"),
        "student": DistillConfig(space="student"),
        **{f"paper-{reading}": DistillConfig(space="paper", paper=one) for reading, one in paper.items()},
    }


def experiment_of(world: SimulatorConfig) -> Experiment:
    """Return the experiment: one student per space, equal in everything else."""
    small: dict[str, Any] = {"kind": "target-attention", "width": 8, "history": 50}
    student = StudentConfig(**small, sampling=SamplingConfig(negative=0.5))
    return Experiment(
        name="debias",
        data=DataConfig(reader="simulator", options=vars(replace(world, delay_minutes=0.0))),
        teacher=TeacherConfig(**small, sampling=SamplingConfig(negative=0.1)),
        students={name: student.model_copy(update={"distill": distill}) for name, distill in spaces().items()},
        evaluate=EvaluateConfig(seeds=[0]),
        checkpoint_rows=world.rows,
    )


def trained(folder: RunFolder, experiment: Experiment, store: SampleStore, job: Job) -> list[Tower]:
    """Train a job; return its main tower as recorded, and its auxiliary tower as its forward passes gave it."""
    trainer, auxiliary = build.trainer_of(folder, experiment, job), []
    towers = trainer.learner.network
    if towers.aux is not None:
        towers.aux.register_forward_hook(lambda module, given, logits: auxiliary.append(logits.detach()[:, 0]))
    for _ in trainer.run_to_end():
        continue
    recorded = join_column(folder.root / "joined" / job.name, store, PredictionLog.open(folder.predictions), job.name)
    logits = {"main": np.array(recorded[:, 0])} | ({"aux": torch.cat(auxiliary).numpy()} if auxiliary else {})
    name, half = ModelName.parse(job.name).name or TEACHER, len(store) // 2
    return [Tower(f"{name}: {tower}", z[half:], trainer.learner.log_odds_offset) for tower, z in logits.items()]


def measure(folder: RunFolder, world: SimulatorConfig) -> tuple[Window, dict[str, Tower]]:
    """Run teacher and students in an empty `folder`; return the log's second half and the towers by name."""
    experiment = experiment_of(world)
    ingest(folder, experiment, None, lambda rows: None, print)
    store = build_store(folder.store, *open_tables(folder))
    PredictionLog.create(folder.predictions, tuple(store.tasks))
    teacher, students = jobs_of(experiment)
    jobs = [teacher, *(job for job in students if "distilled" in job.name)]
    towers = [tower for job in jobs for tower in trained(folder, experiment, store, job)]
    truth = np.concatenate([chunk["probability_click"].to_numpy() for chunk in Simulator(world).chunks()])
    half = len(store) // 2
    return Window(np.array(store.labels[half:, 0]), truth[half:]), {tower.name: tower for tower in towers}


def main() -> int:
    """Measure and report."""
    with tempfile.TemporaryDirectory() as folder:
        window, towers = measure(RunFolder(Path(folder)), WORLD)
    rows = [
        [
            name,
            f"{window.observed(tower, corrected=False):.3f}",
            f"{window.observed(tower, corrected=True):.4f}",
            f"{window.noise(tower):.4f}",
            f"{window.true(tower):.4f}",
            f"{window.off(tower):+.3f}",
        ]
        for name, tower in towers.items()
    ]
    served = [towers["posterior: main"], towers["student: main"]]
    met = all(abs(window.observed(tower, corrected=True) - 1) <= BUDGET for tower in served)
    columns = ["tower", "predicted / observed, as sampled", "corrected", "noise", "predicted / true", "still off"]
    title = f"teacher k- = 0.1, students k- = 0.5, by space; {len(window.label):,} samples"
    return report(title, columns, rows, met, f"students' main towers within {BUDGET:.0%}")


if __name__ == "__main__":
    sys.exit(main())
