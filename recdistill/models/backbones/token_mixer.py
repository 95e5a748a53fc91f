"""Token mixing: RankMixer (2507.15551) and TokenMixer-Large (2602.06563). T tokens of width D, each with weights of its
own.

B samples. Mixing is a transposition, it has no weights: head h of every token becomes token h.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.errors import UserError

__all__ = ["Grouping", "PerTokenSwiGLU", "SparseSwiGLU", "TokenMixer", "mixed", "one_token", "reverted"]

Variant = Literal["rankmixer", "tokenmixer-large"]
Grouping = Literal["learned", "semantic"]


def mixed(x: Tensor, heads: int) -> Tensor:
    """Return [H, B, T * D / H] of tokens [T, B, D]: the h-th part of every token, side by side."""
    tokens, samples, width = x.shape
    return x.view(tokens, samples, heads, width // heads).permute(2, 1, 0, 3).reshape(heads, samples, -1)


def reverted(x: Tensor, tokens: int) -> Tensor:
    """Return the tokens [T, B, D] that `mixed` was given."""
    heads, samples, _ = x.shape
    return x.view(heads, samples, tokens, -1).permute(2, 1, 0, 3).reshape(tokens, samples, -1)


def _weights(tokens: int, inputs: int, outputs: int, std: float | None = None) -> nn.Parameter:
    return nn.Parameter(torch.randn(tokens, inputs, outputs) * (inputs**-0.5 if std is None else std))


class PerTokenSwiGLU(nn.Module):
    """SwiGLU with weights of its own for each token: [T, B, D] -> [T, B, D]; starts small (deviation .01 on
    the way down).
    """

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = _weights(tokens, width, 2 * hidden), _weights(tokens, hidden, width, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = torch.bmm(x, self.up).chunk(2, 2)
        return torch.bmm(functional.silu(gate).mul(up), self.down)


def one_token(part: nn.Module, x: Tensor, token: int) -> Tensor:
    """Return [n, D] of x [n, D], samples of one token, by a PerTokenSwiGLU."""
    gate, up = (x @ part.get_parameter("up")[token]).chunk(2, 1)
    return functional.silu(gate).mul(up) @ part.get_parameter("down")[token]


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
        self.router = _weights(tokens, width, experts)

    def forward(self, x: Tensor) -> Tensor:
        """Return [T, B, D] of tokens [T, B, D]; only the samples that take an expert are given to it."""
        best, chosen = torch.bmm(x, self.router).topk(self.active, 2)
        gate = torch.zeros(*x.shape[:2], len(self.experts), dtype=x.dtype, device=x.device).scatter(
            2, chosen, best.softmax(2) * self.scale
        )
        rows = []
        for token in range(len(x)):
            out = torch.zeros_like(x[token])
            for number, expert in enumerate(self.experts):
                taken = self._taken(chosen[token], number)
                added = one_token(expert, x[token].index_select(0, taken), token) * gate[token, taken, number, None]
                out = out.index_add(0, taken, added)
            rows.append(out)
        return torch.as_tensor(self.shared(x) + torch.stack(rows))

    def _taken(self, chosen: Tensor, number: int) -> Tensor:
        """Return int64 [n], the samples that chose an expert; on the meta device, which has no values, as
        many as on average.
        """
        if chosen.is_meta:
            return torch.arange(-(-len(chosen) * self.active // len(self.experts)), device="meta")
        return (chosen == number).any(1).nonzero()[:, 0]


class _PerTokenFFN(nn.Module):
    """GELU between two products, weights of its own for each token."""

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = _weights(tokens, width, hidden), _weights(tokens, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(functional.gelu(torch.bmm(x, self.up)), self.down)


class _RankMixerBlock(nn.Module):
    """S = LN(mix(X) + X); LN(FFN(S) + S), as many heads as tokens."""

    def __init__(self, tokens: int, width: int, expand: float) -> None:
        super().__init__()
        self.tokens, self.first, self.second = tokens, nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffn = _PerTokenFFN(tokens, width, max(1, int(expand * width)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(mixed(x, self.tokens) + x)
        return torch.as_tensor(self.second(self.ffn(x) + x))


class _LargeBlock(nn.Module):
    """X + revert(SwiGLU(mix(norm X))), then the same without mixing: pre-norm, residuals between tokens of
    one meaning.
    """

    def __init__(self, tokens: int, width: int, heads: int, expand: float, experts: int, active: int) -> None:
        super().__init__()
        self.tokens, self.heads, wide = tokens, heads, tokens * width // heads
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.across, self.within = (
            SparseSwiGLU(count, size, max(1, int(expand * size)), experts, active)
            if experts
            else PerTokenSwiGLU(count, size, max(1, int(expand * size)))
            for count, size in ((heads, wide), (tokens, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + reverted(self.across(mixed(self.first(x), self.heads)), self.tokens)
        return torch.as_tensor(x + self.within(self.second(x)))


class _Parts(nn.Module):
    """Cuts features [B, inputs] into `tokens` parts of one length, in their order, and projects each by weights of its
    own (RankMixer, "tokenization"): [B, tokens * width].
    """

    def __init__(self, inputs: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.size = tokens, -(-inputs // tokens)
        self.weight, self.bias = _weights(tokens, self.size, width), nn.Parameter(torch.zeros(tokens, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (0, self.tokens * self.size - x.shape[1]))
        parts = padded.view(len(x), self.tokens, self.size).transpose(0, 1)
        return torch.baddbmm(self.bias, parts, self.weight).transpose(0, 1).flatten(1)


class TokenMixer(nn.Module):
    """Features [B, inputs] made into `tokens` of `width`, through `layers` blocks, averaged: [B, output_width = width].

    grouping: learned, each token a projection of all features; semantic, of its part of them alone, in the order of
    their meaning (see `SequenceBackbone.mix`). tokenmixer-large: one more token that sums up all of them; what went
    into each pair of blocks is added behind it; a norm after the last one. Notes on the paper disagree on where the
    second residual starts; this is one reading. experts, active: see SparseSwiGLU; 0: none. between: whether to keep,
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
        between: bool = False,
    ) -> None:
        super().__init__()
        heads = tokens if heads is None else heads
        if variant not in ("rankmixer", "tokenmixer-large"):
            raise UserError(f"token-mixer: variant {variant!r} is not one of rankmixer, tokenmixer-large")
        if experts and (variant == "rankmixer" or not 1 <= active <= experts):
            raise UserError(
                f"token-mixer: experts {experts} need variant tokenmixer-large, and active {active} from 1 to {experts}"
            )
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
        self.tokens, self.width, self.output_width, self.large = tokens, width, width, variant == "tokenmixer-large"
        if grouping not in ("learned", "semantic"):
            raise UserError(f"token-mixer: grouping {grouping!r} is not one of learned, semantic")
        own = tokens - self.large
        self.enter = nn.Linear(inputs, own * width) if grouping == "learned" else _Parts(inputs, own, width)
        self.last = nn.RMSNorm(width) if self.large else None
        self.summary = nn.Linear(inputs, width) if self.large else None
        self.layers = nn.ModuleList(
            _LargeBlock(tokens, width, heads, expand, experts, active)
            if self.large
            else _RankMixerBlock(tokens, width, expand)
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, width] of features [B, inputs]."""
        parts = self.enter(x)
        if self.summary is not None:
            parts = torch.cat([self.summary(x), parts], 1)
        x = parts.view(len(x), self.tokens, self.width).transpose(0, 1)
        earlier, self.passed = x, []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if self.large and number % 2:
                x = earlier = x + earlier
                if len(self.passed) < self.between and torch.is_grad_enabled():
                    self.passed.append(x.mean(0))
        return (x if self.last is None else self.last(x)).mean(0)
