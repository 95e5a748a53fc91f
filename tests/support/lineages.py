"""Streams whose students have checkpoints that learned from known versions of a teacher."""

from __future__ import annotations

from pathlib import Path

import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.config.load import load_text
from recdistill.runs.jobs import jobs_by_name
from recdistill.stream.progress import ModelProgress, Sums, to_metadata
from tests.support.gates import Stream

__all__ = ["JOBS", "OTHER", "STUDENT", "Run", "run_with_checkpoints"]

STUDENT, OTHER = "light.distilled.s0", "wide.distilled.s0"
CONFIG = """
name: t
data: {reader: simulator}
students: {light: {kind: pooled-mlp}, wide: {kind: pooled-mlp, width: 8}}
evaluate: {seeds: [0]}
"""
JOBS = jobs_by_name(load_text(CONFIG))


class Run(Stream):
    """A stream whose teacher has versions 0 to 5, with checkpoints of students as a model makes them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.samples(600)
        for version in range(6):
            self.predict(100, version)

    def checkpoint(
        self, rows: int, learned_from: dict[int, int], model: str = STUDENT, teacher: str = "teacher"
    ) -> None:
        """Publish one that learned from so many rows of each version."""
        state = {
            "run": JOBS[model].run if model in JOBS else "",
            "rows": rows,
            "parts": {},
            "learned_from": {teacher: {str(version): count for version, count in learned_from.items()}}
            if learned_from
            else {},
            "versions": {"events": 3, "behaviors": None, "outcomes": None, "predictions": rows, "verdicts": 5},
        }
        Checkpoints(self.folder.model(model) / "stream", keep_sparse=True).publish(
            rows, Checkpoint({"w": torch.tensor([float(rows)])}, state)
        )

    def learned(self, rows: int, ne: float, model: str = STUDENT) -> None:
        """Commit that `model` has predicted `rows` rows so far; over those since the last time its NE was `ne`."""
        new = rows - self.at.get(model, 0)
        loss = ne * new * 0.5004024235381879  # the entropy of a rate of 0.2
        old = self.sums.get(model, Sums())
        self.sums[model] = Sums(old.labels + new, old.positives + 0.2 * new, 0.0, old.logloss + loss)
        self.at[model] = rows
        progress = to_metadata(ModelProgress(rows=rows, sums=self.sums[model]))
        self.predictions.mark(f"{model}@x/stream", self._next(model), {"model": model, **progress})

    @property
    def sums(self) -> dict[str, Sums]:
        """The running sums by model."""
        return self.__dict__.setdefault("_sums", {})


def run_with_checkpoints(root: Path) -> Run:
    """Return a run with three checkpoints of STUDENT, each of 100 rows and one version more, NE 0.9."""
    made = Run(root)
    made.checkpoint(100, {0: 80})
    made.checkpoint(200, {0: 80, 1: 100})
    made.checkpoint(300, {0: 80, 1: 100, 2: 90})
    for rows in (100, 200, 300):
        made.learned(rows, 0.9)
    return made
