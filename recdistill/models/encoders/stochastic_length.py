"""Stochastic length (HSTU, 2402.17152, equation 5): most long histories are learned from in part; and its load balance
(ULTRA-HSTU, 2602.16986): a rank's step keeps fewer histories whole where it would otherwise be longer than the mean
step of all ranks, so that no rank waits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.distributed.ranks import ranks_here
from recdistill.errors import UserError

__all__ = ["PERIOD", "StochasticLength", "kept_lengths"]

PRIME, MIXED, MAX_RANKS = 1_000_003, 1 << 40, 1 << 16  # of a generator's seed
PERIOD = 100  # steps between two means of the load over all ranks; the first are the warm-up, without a budget


def kept_lengths(lengths: Tensor, few: int, chances: Tensor, budget: int | None = None) -> Tensor:
    """Return int64 [R], how many events stay of histories of `lengths` (int64 [R]) for chances [R], uniform in [0, 1).

    One of n > few stays whole with probability (few / n)^2, and otherwise keeps few. budget: at most so many events in
    all, where min(n, few) each are not more: whole ones then keep few as well, those whose chance was closest to the
    limit first.
    """
    least, odds = lengths.clamp(max=few), (few / lengths.clamp(min=1)).square()
    more = torch.where(chances < odds, lengths - least, 0)
    if budget is None or int((least + more).sum()) <= budget:
        return least + more
    order = torch.argsort(chances / odds)
    spent = more.index_select(0, order).cumsum(0)
    fits = torch.zeros_like(more, dtype=torch.bool).scatter(0, order, spent <= budget - least.sum())
    return least + more * fits


class StochasticLength(nn.Module):
    """Draws how many events of each history a step learns from: alpha in [1, 2], N = longest, few = N^(alpha / 2).

    balanced: under a budget, what a rank's step had on average over the last PERIOD steps of all ranks before any
    budget; every rank must then take every step. `draws` is made anew for each step, of the seed at its making, the
    step and the rank, so that a run that resumes draws the same again. UserError for another alpha.
    """

    def __init__(self, alpha: float, longest: int, balanced: bool = False) -> None:
        super().__init__()
        if not 1 <= alpha <= 2:
            raise UserError(f"stochastic: alpha {alpha:g} is not between 1 and 2")
        self.few, self.balanced = max(1, round(longest ** (alpha / 2))), balanced
        self.seed, self.draws = torch.initial_seed(), torch.Generator()
        self.load = torch.zeros(
            3, dtype=torch.float64, device="cpu"
        )  # steps so far; events of this period, of all ranks; the budget

    def get_extra_state(self) -> Tensor:
        """Return what a resumed run needs, the same on all ranks; no buffer, which would follow the weights
        to their device.
        """
        return self.load.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore it."""
        self.load = state.clone()

    def forward(self, lengths: Tensor) -> Tensor:
        """Return int64 [R], how many events of each history to learn from; lengths int64 [R]."""
        self.draws.manual_seed((self.seed * PRIME + int(self.load[0])) % MIXED * MAX_RANKS + ranks_here().rank)
        chances = torch.rand(len(lengths), generator=self.draws, device="cpu").to(lengths.device)
        plain = kept_lengths(lengths, self.few, chances)
        if not self.balanced:
            self.load[0] += 1
            return plain
        budget = self._budget(float(plain.sum()))
        return plain if budget is None else kept_lengths(lengths, self.few, chances, budget)

    def _budget(self, events: float) -> int | None:
        """Return this step's budget, None while there is none, and count its events."""
        steps, sofar, known = self.load.tolist()
        ranks, now = ranks_here(), torch.tensor([events], dtype=torch.float64, device="cpu")
        ranks.sum_in_place([now])
        steps, sofar = steps + 1, sofar + float(now)
        new = steps % PERIOD == 0
        self.load = torch.tensor(
            [steps, 0.0 if new else sofar, sofar / (PERIOD * ranks.size) if new else known], dtype=torch.float64
        )
        return int(known) if steps > PERIOD else None
