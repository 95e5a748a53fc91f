"""Stochastic length (HSTU, 2402.17152, equation 5): most long histories are learned from in part; and its load balance (ULTRA-HSTU,
2602.16986): no rank's step is longer than a step is on average over all ranks, so that none waits for another.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recdistill.errors import UserError
from recdistill.models.ranks import ALONE, Ranks

__all__ = ["PERIOD", "StochasticLength", "kept_lengths"]

PERIOD = 100  # steps between two means of the load over all ranks; the first are the warm-up, without a budget


def kept_lengths(lengths: Tensor, few: int, chances: Tensor, budget: int | None = None) -> Tensor:
    """Return int64 [R], how many events stay of histories of `lengths` (int64 [R]) for chances [R], uniform in [0, 1).

    One of n > few stays whole with probability (few / n)^2, and otherwise keeps few. budget: at most so many events in all, where
    min(n, few) each are not more: whole ones then keep few as well, the least sure of their luck first.
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

    balanced: under a budget, what a rank's step had on average over the last PERIOD steps of all ranks before any budget; every rank
    must then take every step. Draws are torch's. UserError for another alpha.
    """

    def __init__(self, alpha: float, longest: int, balanced: bool = False) -> None:
        super().__init__()
        if not 1 <= alpha <= 2:
            raise UserError(f"stochastic: alpha {alpha:g} is not between 1 and 2")
        self.few, self.balanced = max(1, round(longest ** (alpha / 2))), balanced
        if balanced:  # steps so far; events of this period; the budget
            self.register_buffer("load", torch.zeros(3, dtype=torch.float64))

    def forward(self, lengths: Tensor) -> Tensor:
        """Return int64 [R], how many events of each history to learn from; lengths int64 [R]."""
        chances = torch.rand(len(lengths), device="cpu").to(lengths.device)  # by the host: the same wherever a model computes
        plain = kept_lengths(lengths, self.few, chances)
        if not self.balanced:
            return plain
        budget = self._budget(float(plain.sum()))
        return plain if budget is None else kept_lengths(lengths, self.few, chances, budget)

    def _budget(self, events: float) -> int | None:
        """Return this step's budget, None while there is none, and count its events."""
        load = self.get_buffer("load")
        budget = int(load[2]) if load[0] >= PERIOD else None
        load[:2] += torch.tensor([1.0, events], dtype=load.dtype, device=load.device)
        if load[0] % PERIOD == 0:
            ranks = _ranks()
            ranks.sum_in_place([load[1:2]])
            load[1:] = torch.stack([torch.zeros_like(load[1]), load[1] / (PERIOD * ranks.size)])
        return budget


def _ranks() -> Ranks:
    joined = dist.is_available() and dist.is_initialized()
    return Ranks(dist.get_rank(), dist.get_world_size()) if joined else ALONE
