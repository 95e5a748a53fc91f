"""The automatic weight: the signal's gradient at the backbone is held at a given fraction of the labels'."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.distill.sums import ONE, Sums

__all__ = ["AutoWeight"]

MEMORY = 0.9  # of the running averages, per measurement
LARGEST = 100.0  # a teacher that agrees with its student has a gradient near zero


class AutoWeight:
    """alpha = fraction * mean |g_label| / mean |g_signal|, running averages of gradient norms; 1 before any
    was seen.
    """

    def __init__(self, fraction: float) -> None:
        self.fraction, self.label, self.signal, self.count = fraction, 0.0, 0.0, 0

    def update(self, by_label: Tensor, by_signal: Tensor, ranks: Sums = ONE) -> None:
        """Take in one measurement: gradients of the two losses (weight 1) at the backbone's output, [B, W]; ranks:
        those that have the step's other rows.
        """
        squares = torch.stack([by_label.norm(), by_signal.norm()]).double().cpu().square()
        ranks.sum_in_place([squares])
        label, signal = squares.sqrt().tolist()
        if not signal:
            return
        keep = MEMORY if self.count else 0.0
        self.label, self.signal = keep * self.label + (1 - keep) * label, keep * self.signal + (1 - keep) * signal
        self.count += 1

    @property
    def weight(self) -> float:
        """Return alpha."""
        return min(LARGEST, self.fraction * self.label / self.signal) if self.count else 1.0

    def state_dict(self) -> dict[str, float]:
        """Return what `load_state_dict` takes."""
        return {"label": self.label, "signal": self.signal, "count": float(self.count)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up a saved state."""
        self.label, self.signal, self.count = state["label"], state["signal"], int(state["count"])
