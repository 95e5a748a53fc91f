"""ExFM's student adapter (2502.17494, equations 6 and 7): the teacher's log-odds, corrected by fresh labels.

A teacher of another domain, or an old one, is off in ways that recent labels show at once. An MLP on its log-odds
learns that with an optimiser of its own; its output, without gradients, is a second target of the student. Within a
step the adapter learns first (algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.distill.losses import TINY, label_loss
from recdistill.distill.optimizer_state import load_state_dict, network_state
from recdistill.distill.sums import ONE, Sums

__all__ = ["MIN_ROWS", "Adapter"]

MIN_ROWS = 1000  # rows with a label and a signal before its output counts
SEED = 5


class Adapter:
    """An MLP per task on one logit; it starts as the identity."""

    def __init__(self, tasks: int, hidden: Sequence[int], rate: float) -> None:
        with torch.random.fork_rng(devices=[]):  # its weights are no one else's business
            torch.manual_seed(SEED)
            self.networks = nn.ModuleList(_network(hidden) for _ in range(tasks))
        self.optimiser = torch.optim.Adam(self.networks.parameters(), lr=rate)
        self.rows = 0

    def _corrected(self, signals: Tensor) -> Tensor:
        known = torch.nan_to_num(signals)
        return known + torch.cat([network(known[:, k : k + 1]) for k, network in enumerate(self.networks)], 1)

    def learn(self, signals: Tensor, labels: Tensor, rows: int | Tensor | None = None, ranks: Sums = ONE) -> Tensor:
        """Take a step on the rows with both, then return the corrected log-odds [B, K], without gradients.

        NaN where there is no signal, and everywhere until it has learned from MIN_ROWS rows. Labels [B, K], NaN
        where unknown; rows: see `Supervision`; ranks: those that have the step's other rows.
        """
        missing = torch.isnan(signals)
        fresh = labels.masked_fill(missing, math.nan)
        known = ~torch.isnan(fresh)
        own = torch.stack([(known * rows).sum() if isinstance(rows, Tensor) else known.sum(), known.any(1).sum()])
        whole = own.double()
        ranks.sum_in_place([whole])
        if both := int(whole[1]):
            share = float(own[0]) / max(float(whole[0]), TINY)  # of this rank's mean loss in that of all rows
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(label_loss(self._corrected(signals), fresh, rows) * share)
            ranks.sum_in_place([one.grad for one in self.networks.parameters() if one.grad is not None])
            self.optimiser.step()
            self.rows += both
        if self.rows < MIN_ROWS:
            return torch.full_like(signals, math.nan)
        with torch.no_grad():
            return self._corrected(signals).masked_fill(missing, math.nan)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what `restore` takes."""
        return network_state(self.networks, self.optimiser), {"rows": self.rows}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Take up a saved state."""
        load_state_dict(self.networks, self.optimiser, tensors)
        self.rows = int(state["rows"])


def _network(hidden: Sequence[int]) -> nn.Sequential:
    """Return [B, 1] -> [B, 1], zero at first."""
    layers: list[nn.Module] = []
    width = 1
    for wide in hidden:
        layers += [nn.Linear(width, wide), nn.Tanh()]
        width = wide
    last = nn.Linear(width, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
