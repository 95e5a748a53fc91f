"""Token mixing: RankMixer (2507.15551) and TokenMixer-Large (2602.06563). T tokens of width D, each with weights of its
own.

B samples. Mixing is a transposition, it has no weights: head h of every token becomes token h.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.distributed.token_ranks import ONE, TokenRanks
from recdistill.errors import UserError
from recdistill.models.layers.experts import PerTokenFFN, PerTokenSwiGLU, ReLUExperts, SparseSwiGLU, per_token_weights
from recdistill.models.layers.recorder import Recorder

__all__ = ["Grouping", "SecondResidual", "TokenMixer", "Variant"]

Variant = Literal["rankmixer", "tokenmixer-large"]
Grouping = Literal["learned", "semantic"]
SecondResidual = Literal["mixed", "input"]


class _RankMixerBlock(nn.Module):
    """S = LN(mix(X) + X); LN(FFN(S) + S), as many heads as tokens; experts, active: see ReLUExperts, 0: one FFN."""

    by_token = ("ffn",)

    def __init__(self, tokens: int, width: int, expand: float, experts: int, active: int) -> None:
        super().__init__()
        self.tokens, self.first, self.second = tokens, nn.LayerNorm(width), nn.LayerNorm(width)
        shape = tokens, width, max(1, int(expand * width))
        self.ffn = ReLUExperts(*shape, experts, active) if experts else PerTokenFFN(*shape)

    def forward(self, x: Tensor, over: TokenRanks) -> Tensor:
        x = self.first(over.mixed(x, self.tokens) + x)
        return torch.as_tensor(self.second(self.ffn(x) + x))


class _LargeBlock(nn.Module):
    """H = X + revert(SwiGLU(mix(norm X))), then H + SwiGLU(norm H): pre-norm, residuals between tokens of one meaning.

    residual: mixed, as above; input: X + SwiGLU(norm H).
    """

    by_token = ("across", "within")

    def __init__(
        self, tokens: int, width: int, heads: int, expand: float, experts: int, active: int, residual: SecondResidual
    ) -> None:
        super().__init__()
        self.from_input = residual == "input"
        self.tokens, self.heads, wide = tokens, heads, tokens * width // heads
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.across, self.within = (
            SparseSwiGLU(count, size, max(1, int(expand * size)), experts, active)
            if experts
            else PerTokenSwiGLU(count, size, max(1, int(expand * size)))
            for count, size in ((heads, wide), (tokens, width))
        )

    def forward(self, x: Tensor, over: TokenRanks) -> Tensor:
        h = x + over.mixed(self.across(over.mixed(self.first(x), self.heads)), self.tokens)
        return torch.as_tensor((x if self.from_input else h) + self.within(self.second(h)))


class _Parts(nn.Module):
    """Cuts features [B, inputs] into `tokens` parts of one length, in their order, and projects each by weights of its
    own (RankMixer, "tokenization"): [B, tokens * width].
    """

    def __init__(self, inputs: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.size = tokens, -(-inputs // tokens)
        self.weight, self.bias = (
            per_token_weights(tokens, self.size, width),
            nn.Parameter(torch.zeros(tokens, 1, width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (0, self.tokens * self.size - x.shape[1]))
        parts = padded.view(x.shape[0], self.tokens, self.size).transpose(0, 1)
        return torch.baddbmm(self.bias, parts, self.weight).transpose(0, 1).flatten(1)


class TokenMixer(nn.Module):
    """Features [B, inputs] made into `tokens` of `width`, through `layers` blocks, averaged: [B, output_width = width].

    grouping: learned, each token a projection of all features; semantic, of its part of them alone, in the order of
    their meaning (see `SequenceBackbone.mix`). tokenmixer-large: one more token that sums up all of them; what went
    into each pair of blocks is added behind it; a norm after the last one. residual: where a block's second residual
    starts, on which notes on the paper disagree: mixed, at what mixing and reverting made, with its own residual, as
    their diagram has it; input, at what went into the block, as one public implementation has it. experts, active: see
    ReLUExperts for rankmixer, SparseSwiGLU for tokenmixer-large; 0: none. between: whether to keep,
    while something is learned, the states behind those blocks but the last: [B, width] each, in `passed` until
    `TokenMixerModel.taken` takes them.
    """

    def __init__(
        self,
        inputs: int,
        *,
        tokens: int,
        width: int,
        layers: int,
        heads: int | None = None,
        expand: float = 2.0,
        variant: Variant = "tokenmixer-large",
        grouping: Grouping = "learned",
        experts: int = 0,
        active: int = 1,
        residual: SecondResidual = "mixed",
        between: bool = False,
    ) -> None:
        super().__init__()
        heads = tokens if heads is None else heads
        _check(variant, grouping, residual)
        if experts and not 1 <= active <= experts:
            raise UserError(f"token-mixer: active is {active}; of {experts} experts give 1 to {experts}")
        if layers < 1 or tokens < 2:
            raise UserError(f"token-mixer: layers {layers} must be at least 1, tokens {tokens} at least 2")
        if width % heads:
            raise UserError(
                f"token-mixer: mixer_width {width} is not a multiple of mixer_heads {heads}; change one of them"
            )
        if variant == "rankmixer" and heads != tokens:
            raise UserError(
                f"token-mixer: rankmixer has as many heads as tokens; leave mixer_heads out, or set it to {tokens}"
            )
        if between and (variant == "rankmixer" or layers < 3):
            raise UserError(
                "token-mixer: auxiliary losses need at least 3 blocks of tokenmixer-large; raise mixer_layers"
            )
        self.between, self.passed = between * ((layers - 1) // 2), list[Tensor]()
        self.tokens, self.heads, self.width, self.output_width = tokens, heads, width, width
        self.large = variant == "tokenmixer-large"
        own = tokens - self.large
        self.enter = nn.Linear(inputs, own * width) if grouping == "learned" else _Parts(inputs, own, width)
        self.last = nn.RMSNorm(width) if self.large else None
        self.summary = nn.Linear(inputs, width) if self.large else None
        self.layers = nn.ModuleList(
            _LargeBlock(tokens, width, heads, expand, experts, active, residual)
            if self.large
            else _RankMixerBlock(tokens, width, expand, experts, active)
            for _ in range(layers)
        )
        self.depth, self.recorder = layers, Recorder()
        self.over = ONE

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, width] of features [B, inputs]."""
        parts = self.enter(x)
        if self.summary is not None:
            parts = torch.cat([self.summary(x), parts], 1)
        parts = parts.to(x.dtype)  # what layers add to is not rounded where their products are
        rows = x.shape[0]
        x = self.over.of_tokens(parts.view(rows, self.tokens, self.width).transpose(0, 1))
        earlier, self.passed = x, []
        for number, layer in enumerate(self.layers):
            x = layer(x, self.over)
            if self.large and number % 2:
                x = earlier = x + earlier
                if len(self.passed) < self.between and torch.is_grad_enabled():
                    self.passed.append(self.over.of_rows(x, rows).mean(0))
            if self.recorder.block == number + 1:
                self.recorder.keep(number + 1, self.over.of_rows(x, rows))
        x = self.over.of_rows(x, rows)
        return (x if self.last is None else self.last(x)).mean(0)


def _check(variant: str, grouping: str, residual: str) -> None:
    """Raise UserError for a choice that there is not."""
    for name, value, choices in (
        ("variant", variant, Variant),
        ("grouping", grouping, Grouping),
        ("residual", residual, SecondResidual),
    ):
        if value not in get_args(choices):
            raise UserError(f"token-mixer: {name} {value!r} is not one of {', '.join(get_args(choices))}")
    if variant == "rankmixer" and residual != "mixed":
        raise UserError("token-mixer: residual is of variant tokenmixer-large; leave it out")
