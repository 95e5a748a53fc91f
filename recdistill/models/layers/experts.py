"""Feed-forward parts with weights of their own for each token, whole or as experts of which a sample takes a few: those
of RankMixer (2507.15551) and TokenMixer-Large (2602.06563). T tokens of width D, B samples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.distributed.ranks import ranks_here
from recdistill.distributed.token_ranks import of_rank

__all__ = ["PerTokenFFN", "PerTokenSwiGLU", "ReLUExperts", "SparseSwiGLU", "per_token_weights", "routed"]

FIRST_WEIGHT, FACTOR, LARGEST_WEIGHT = 1e-8, 1.2, 10.0  # of ReLUExperts' regulariser


def per_token_weights(tokens: int, inputs: int, outputs: int, std: float | None = None) -> nn.Parameter:
    """Return [T, inputs, outputs], normal of deviation `std`, by default inputs^-.5."""
    return nn.Parameter(torch.randn(tokens, inputs, outputs) * (inputs**-0.5 if std is None else std))


def routed(x: Tensor, router: Tensor) -> Tensor:
    """Return [T, B, experts] of tokens [T, B, D], never in shorter numbers than the router's: experts are chosen by
    it.
    """
    if x.device.type == "meta" or not torch.is_autocast_enabled(x.device.type):
        return torch.bmm(x, router)
    with torch.autocast(x.device.type, enabled=False):
        return torch.bmm(x.to(router.dtype), router)


class PerTokenSwiGLU(nn.Module):
    """SwiGLU with weights of its own for each token: [T, B, D] -> [T, B, D]; starts small (deviation .01 on
    the way down).
    """

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = (
            per_token_weights(tokens, width, 2 * hidden),
            per_token_weights(tokens, hidden, width, 0.01),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate, up = torch.bmm(x, of_rank(self.up)).chunk(2, 2)
        return torch.bmm(functional.silu(gate).mul(up), of_rank(self.down))

    def one_token(self, x: Tensor, token: int) -> Tensor:
        """Return [n, D] of x [n, D], samples of one token."""
        gate, up = (x @ of_rank(self.up)[token]).chunk(2, 1)
        return functional.silu(gate).mul(up) @ of_rank(self.down)[token]


class SparseSwiGLU(nn.Module):
    """Per-token SwiGLU of which each sample takes, token by token, a shared expert and the `active` of `experts` others
    that its router prefers, weighed by softmax among those, times experts / active (SP-MoE of TokenMixer-Large).
    """

    def __init__(self, tokens: int, width: int, hidden: int, experts: int, active: int) -> None:
        super().__init__()
        part = max(1, hidden // (experts + 1))
        self.active, self.scale = active, experts / active
        self.shared = PerTokenSwiGLU(tokens, width, part)
        self.experts = nn.ModuleList(PerTokenSwiGLU(tokens, width, part) for _ in range(experts))
        self.router = per_token_weights(tokens, width, experts)

    def forward(self, x: Tensor) -> Tensor:
        """Return [T, B, D] of tokens [T, B, D]; only the samples that take an expert are given to it."""
        best, chosen = routed(x, of_rank(self.router)).topk(self.active, 2)
        gate = torch.zeros(*x.shape[:2], len(self.experts), dtype=best.dtype, device=x.device).scatter(
            2, chosen, best.softmax(2) * self.scale
        )
        taken = _of_takers(x, self.experts, gate, partial(self._taken, chosen))
        return torch.as_tensor(self.shared(x) + taken)

    def _taken(self, chosen: Tensor, token: int, number: int) -> Tensor:
        """Return int64 [n], the samples of a token that chose an expert; on the meta device, which has no values, as
        many as on average.
        """
        if chosen.is_meta:
            return torch.arange(-(-chosen.shape[1] * self.active // len(self.experts)), device="meta")
        return (chosen[token] == number).any(1).nonzero()[:, 0]


class PerTokenFFN(nn.Module):
    """GELU between two products, weights of its own for each token: [T, B, D] -> [T, B, D]."""

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = per_token_weights(tokens, width, hidden), per_token_weights(tokens, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(functional.gelu(torch.bmm(x, of_rank(self.up))), of_rank(self.down))

    def one_token(self, x: Tensor, token: int) -> Tensor:
        """Return [n, D] of x [n, D], samples of one token."""
        return functional.gelu(x @ of_rank(self.up)[token]) @ of_rank(self.down)[token]


class ReLUExperts(nn.Module):
    """Experts that a ReLU chooses (RankMixer, "ReLU routing"): v = sum over j of G_j e_j(s), G = ReLU(s R), so that
    each token of a sample takes as many experts as it needs, `active` of `experts` on average. An expert is a part of
    the dense network: hidden / experts wide.

    Regulariser: weight * mean over samples and tokens of the sum of G, kept in `penalty` until `taken`; the weight
    rises by FACTOR after a step in which more than `active` were taken, and falls by it otherwise (ReMoE, 2412.14711).
    It stops at LARGEST_WEIGHT, for Adam's steps do not grow with it.

    Dense training, sparse inference (DTSI): two routers learn, one of them, without the regulariser, for training
    alone; the text says no more. Our reading of it: of the samples of a step every second one takes the training
    router's G, so the experts learn from samples that the other would keep from them, and both routers learn from
    labels. What is only predicted, without gradients, takes the regularised router's, and no expert at 0 is computed.

    first, of: which of the step's rows the first one given is, and how many those of all ranks are, 0 where there is no
    other rank; equal where none of them is here. `penalty` is this rank's part of the mean.
    """

    def __init__(self, tokens: int, width: int, hidden: int, experts: int, active: int) -> None:
        super().__init__()
        self.share = active / experts
        self.experts = nn.ModuleList(PerTokenFFN(tokens, width, max(1, hidden // experts)) for _ in range(experts))
        self.router, self.training_router = (per_token_weights(tokens, width, experts) for _ in range(2))
        self.register_buffer("weight", torch.tensor(FIRST_WEIGHT))
        self.penalty: Tensor | None = None
        self.first = self.of = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return [T, B, D] of tokens [T, B, D]."""
        gates = torch.relu(routed(x, self.router))
        if not (self.training and torch.is_grad_enabled()):
            return _of_takers(x, self.experts, gates, lambda token, number: gates[token, :, number].nonzero()[:, 0])
        self._regularise(gates[:, self.first % 2 :: 2])
        dense = (torch.arange(x.shape[1], device=x.device) + self.first) % 2 == 1
        gates = torch.where(dense[:, None], torch.relu(routed(x, self.training_router)), gates)
        return sum((expert(x) * gates[..., j, None] for j, expert in enumerate(self.experts)), torch.zeros_like(x))

    def taken(self) -> Tensor | None:
        """Return the regulariser of the last pass that learned, and forget it; None where there was none."""
        penalty, self.penalty = self.penalty, None
        return penalty

    def _regularise(self, gates: Tensor) -> None:
        weight = self.get_buffer("weight")
        if self.of and self.first >= self.of:
            gates = gates[:, :0]
        samples = (self.of + 1) // 2 if self.of else gates.shape[1]
        self.penalty = weight.clone() * (gates.sum(2).sum() / (len(gates) * samples))
        with torch.no_grad():
            positive = (gates > 0).to(weight.dtype).sum()
            ranks_here().sum_in_place([positive])
            many = positive / (len(gates) * samples * len(self.experts)) > self.share
            weight.mul_(torch.where(many, FACTOR, 1 / FACTOR)).clamp_(FIRST_WEIGHT, LARGEST_WEIGHT)


def _of_takers(x: Tensor, experts: nn.ModuleList, gates: Tensor, taken: Callable[[int, int], Tensor]) -> Tensor:
    """Return [T, B, D] of tokens [T, B, D]: the sum of each sample's experts by their gates [T, B, experts], of which
    only those at int64 [n] `taken`(token, expert) are given to it.
    """
    if torch.compiler.is_exporting():  # a graph cannot leave rows out by value: all experts, most of them times 0
        every = [cast(Callable[[Tensor], Tensor], expert)(x) * gates[..., j, None] for j, expert in enumerate(experts)]
        return torch.stack(every).sum(0)
    rows = []
    for token in range(len(x)):
        out = torch.zeros_like(x[token])
        for number, expert in enumerate(experts):
            at = taken(token, number)
            made = cast(PerTokenSwiGLU | PerTokenFFN, expert).one_token(x[token].index_select(0, at), token)
            out = out.index_add(0, at, made * gates[token, at, number, None])
        rows.append(out)
    return torch.stack(rows)
