"""The start gate: signals count once the teacher predicts better than its student does itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["StartGate"]


class StartGate:
    """Open while the teacher's progressive NE is below the student's by `margin` over the last `window` rows or so.

    Both are scored on the same rows, before either learned from them, by exponentially fading sums of log-loss; the
    entropy of the base rate is common to both. `own` and `teacher` are the log(k+ / k-) that are in the logits and not in
    the labels: what the log itself went through is in both.
    """

    def __init__(self, margin: float, window: int, own: float = 0.0, teacher: float = 0.0) -> None:
        self.margin, self.window, self.own, self.teacher = margin, window, own, teacher
        self.rows = self.positives = self.student_loss = self.teacher_loss = 0.0

    def update(self, labels: Tensor, signals: Tensor, logits: Tensor) -> bool:
        """Score a batch, [B, K] each, by its first task; return whether signals may count for it."""
        is_open = self.open
        y, t, z = labels[:, 0], signals[:, 0] - self.teacher, logits[:, 0] - self.own
        both = ~(torch.isnan(y) | torch.isnan(t))
        y, t, z = y[both].double(), t[both].double(), z[both].double()
        fade = math.exp(-len(y) / self.window)
        self.rows = fade * self.rows + len(y)
        self.positives = fade * self.positives + float(y.sum())
        self.student_loss = fade * self.student_loss + float(
            functional.binary_cross_entropy_with_logits(z, y, reduction="sum")
        )
        self.teacher_loss = fade * self.teacher_loss + float(
            functional.binary_cross_entropy_with_logits(t, y, reduction="sum")
        )
        return is_open

    @property
    def open(self) -> bool:
        """Return whether the teacher is ahead by the margin, in NE, over at least half a window of rows."""
        rate = self.positives / self.rows if self.rows else 0.0
        if self.rows < self.window * (1 - math.exp(-0.5)) or not 0 < rate < 1:
            return False
        entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
        return (self.student_loss - self.teacher_loss) / self.rows / entropy > self.margin

    def state_dict(self) -> dict[str, float]:
        """Return what `load_state_dict` takes."""
        return {
            "rows": self.rows,
            "positives": self.positives,
            "student": self.student_loss,
            "teacher": self.teacher_loss,
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up a saved state."""
        self.rows, self.positives = state["rows"], state["positives"]
        self.student_loss, self.teacher_loss = state["student"], state["teacher"]
