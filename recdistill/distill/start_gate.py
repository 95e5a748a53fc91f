"""The start gate: signals count once the teacher predicts better than its student does itself, slice by slice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recdistill.distill.sums import ONE, Sums

__all__ = ["StartGate"]

ROWS, POSITIVES, AHEAD, SQUARE = range(4)  # of the sums
FULL = 0.3934693402873666  # 1 - exp(-1/2): what half a window of rows leaves of a whole one's weight


class StartGate:
    """Open for a slice while the teacher's progressive NE there is below the student's by `margin`, and by `sigmas`
    standard errors.

    Both are scored on the same rows, before either learned from them, by sums that fade over about `window` rows of the
    slice; the entropy of the base rate is common to both. `own` and `teacher` are the log(k+ / k-) that are in the
    logits and not in the labels: what the log itself went through is in both.
    """

    def __init__(
        self,
        margin: float,
        window: int,
        own: float = 0.0,
        teacher: float = 0.0,
        *,
        sigmas: float = 0.0,
        slices: int = 1,
    ) -> None:
        self.margin, self.window, self.own, self.teacher, self.sigmas = margin, window, own, teacher, sigmas
        self.sums = torch.zeros(slices, 4, dtype=torch.float64)

    def update(
        self, labels: Tensor, signals: Tensor, logits: Tensor, slices: Tensor | None = None, ranks: Sums = ONE
    ) -> Tensor:
        """Score a batch, [B, K] each, by its first task; return bool [B], whether signals may count for each row.

        slices: int64 [B]; all rows are of one without. ranks: those that have the step's other rows. The batch itself
        counts from the next one on.
        """
        at = torch.zeros(len(labels), dtype=torch.int64) if slices is None else slices
        may = self.open[at]
        y, t, z = labels[:, 0], signals[:, 0] - self.teacher, logits[:, 0] - self.own
        both = ~(torch.isnan(y) | torch.isnan(t))
        y, t, z, at = y[both].double(), t[both].double(), z[both].double(), at[both]
        ahead = functional.binary_cross_entropy_with_logits(z, y, reduction="none")
        ahead -= functional.binary_cross_entropy_with_logits(t, y, reduction="none")
        new = torch.zeros_like(self.sums).index_add_(
            0, at, torch.stack((torch.ones_like(y), y, ahead, ahead.square()), 1)
        )
        ranks.sum_in_place([new])
        self.sums = self.sums * torch.exp(-new[:, ROWS:POSITIVES] / self.window) + new
        return may

    @property
    def open(self) -> Tensor:
        """Return bool [slices]: whether the teacher is ahead by both bounds, over at least half a window of rows."""
        rows, positives, ahead, square = self.sums.T
        rate, mean = positives / rows.clamp(min=1), ahead / rows.clamp(min=1)
        entropy = -(torch.xlogy(rate, rate) + torch.xlogy(1 - rate, 1 - rate))
        error = ((square / rows.clamp(min=1) - mean.square()).clamp(min=0) / rows.clamp(min=1)).sqrt()
        enough = (rows >= self.window * FULL) & (entropy > 0)
        return torch.logical_and(enough & (mean > self.margin * entropy), mean > self.sigmas * error)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"sums": self.sums.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.sums = torch.tensor(state["sums"], dtype=torch.float64)
