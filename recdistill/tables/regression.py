"""Labels that are values, not outcomes: what a model learns of them, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recdistill.typing import Array

__all__ = ["Regression"]

LARGEST_LOG = 80.0  # beyond it nothing is a value: an untrained model's prediction stays finite


@dataclass(frozen=True)
class Regression:
    """How a task's values are learned: `log` as log(1 + value / scale), `huber` as value / scale.

    The loss is Huber's with its bend at 1 in either: errors below it count squared, larger ones by their size. scale:
    positive, in the label's unit.
    """

    loss: Literal["log", "huber"]
    scale: float = 1.0

    def learned(self, values: Array) -> Array:
        """Return float32 [N], what a model learns of values [N] in the label's unit; NaN stays NaN."""
        scaled = np.asarray(values, np.float64) / self.scale
        return np.asarray(np.log1p(scaled) if self.loss == "log" else scaled, np.float32)

    def values(self, predicted: Array) -> Array:
        """Return float64 [N], predictions [N] as recorded in the label's unit."""
        raw = np.asarray(predicted, np.float64)
        return np.asarray(self.scale * (np.expm1(np.minimum(raw, LARGEST_LOG)) if self.loss == "log" else raw))
