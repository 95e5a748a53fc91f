"""Softmax attention as HSTU's scaling study (2412.00714) compares it: SASRec's blocks and Llama's, with candidates as
targets.

Both take HSTU's relative bias if asked; in that study it is what lets SASRec scale. Shapes as in request_layout.py; H
heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.errors import UserError
from recdistill.models.attention.blockwise import attend, band_bias
from recdistill.models.encoders.packed import Sequences
from recdistill.models.encoders.position_bias import RelativeBias
from recdistill.models.layers.recorder import Recorder
from recdistill.models.widths import Dim, NetworkWidths, Part, linear, norm, out, stacked, under, widths_of

__all__ = ["SwiGLU", "TransformerLayer", "TransformerStack", "rotated"]

Block = Literal["sasrec", "llama"]
Residual = Literal["pre", "post"]


class SwiGLU(nn.Module):
    """down(SiLU(gate x) * up x): [..., D] -> [..., D]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.up(x).chunk(2, -1)
        return torch.as_tensor(self.down(functional.silu(gate) * up))

    def dims(self) -> dict[str, tuple[Dim, ...]]:
        """Return the dimensions of its parameters, of widths width and ffn."""
        up, down = linear(["ffn", "ffn"], ["width"], False), linear(["width"], ["ffn"], False)
        return under("up", up) | under("down", down)


def rotated(x: Tensor, position: Tensor) -> Tensor:
    """Return x [..., n, d] turned by its position (int64 [..., n]): RoPE (2104.09864), halves paired, d even."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = position.unsqueeze(-1).to(torch.float32) * rates
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)


class TransformerLayer(nn.Module):
    """Causal softmax attention, then a feed-forward part; `residual` says whether the norms stand before or after each.

    sasrec: LayerNorm, ReLU, no rotation. llama: RMSNorm, SwiGLU, RoPE.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        length: int,
        block: Block,
        residual: Residual,
        bias: Sequence[str],
        band: int | None,
    ) -> None:
        super().__init__()
        llama = block == "llama"
        norm = nn.RMSNorm if llama else nn.LayerNorm
        self.heads, self.rotary, self.before, self.band = heads, llama, residual == "pre", band
        self.first, self.second = norm(width), norm(width)
        self.project, self.out = nn.Linear(width, 3 * width, bias=not llama), nn.Linear(width, width, bias=not llama)
        ffn = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.ffn = SwiGLU(width, 8 * -(-width // 3)) if llama else ffn
        self.bias = RelativeBias(heads, length, bias)

    def widths(self) -> NetworkWidths:
        """Return its widths: width, heads, ffn, and head_width, or head_pairs where RoPE turns columns in pairs."""
        llama, per_head = self.rotary, self.out.in_features // self.heads
        column = "head_pairs" if llama else "head_width"
        head: Part = ("heads", 2, column) if llama else ("heads", column)
        dims = under("project", linear([head] * 3, ["width"], not llama))
        dims |= under("out", linear(["width"], [head], not llama)) | under("bias", self.bias.dims())
        dims |= under("first", norm(["width"], not llama)) | under("second", norm(["width"], not llama))
        if isinstance(self.ffn, SwiGLU):
            dims, ffn = dims | under("ffn", self.ffn.dims()), self.ffn.down.in_features
        else:
            dims |= under("ffn.0", linear(["ffn"], ["width"])) | under("ffn.2", linear(["width"], ["ffn"]))
            ffn = cast(nn.Linear, self.ffn[0]).out_features
        sizes = {"width": self.out.out_features, "heads": self.heads, column: per_head // (1 + llama), "ffn": ffn}
        return NetworkWidths(sizes, dims, outputs=("width",), inexact=frozenset({"width", column}))

    def _split(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (scaled), k, v [R, H, n, d] of x [R, n, D]."""
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.project(x).chunk(3, -1))
        if self.rotary:
            q, k = rotated(q, position.unsqueeze(1)), rotated(k, position.unsqueeze(1))
        return q * q.shape[3] ** -0.5, k, v

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Return [R, n, D] of what was attended to, [R, H, n, d]."""
        added = x + self.out(mixed.transpose(1, 2).flatten(2))
        if self.before:
            return torch.as_tensor(added + self.ffn(self.second(added)))
        added = self.first(added)
        return torch.as_tensor(self.second(added + self.ffn(added)))

    def forward(self, events: Tensor, targets: Tensor, at: Sequences) -> tuple[Tensor, Tensor]:
        """Return (events [R, L, D], targets [P, C, D]) after the layer."""
        length = events.shape[1]
        band = length if self.band is None else min(self.band, length)
        x = self.first(events) if self.before else events
        q, k, v = self._split(x, torch.arange(length, device=events.device)[None])
        query, key, value = (part.flatten(0, 1) for part in (q, k, v))
        near, time = band_bias(self.bias.by_distance(q), length, band).to(q.dtype), self.bias.by_gap(at.ago, at.ago)
        mixed = attend(query, key, value, near, time, heads=self.heads, band=band, alive=at.alive, softmax=True)
        return self._finish(events, mixed.view(v.shape)), self._see(targets, k, v, at)

    def last(self, events: Tensor, targets: Tensor, at: Sequences) -> Tensor:
        """Return targets [P, C, D] after the layer; the events need no more than keys and values."""
        x = self.first(events) if self.before else events
        _, k, v = self._split(x, torch.arange(events.shape[1], device=events.device)[None])
        return self._see(targets, k, v, at)

    def _see(self, targets: Tensor, k: Tensor, v: Tensor, at: Sequences) -> Tensor:
        """Attend from each target to its history, and to itself as if appended to it alone."""
        x = self.first(targets) if self.before else targets
        q, own_k, own_v = self._split(x, at.pieces(at.lengths)[:, None].expand(-1, targets.shape[1]))
        past = torch.matmul(q, at.pieces(k).transpose(2, 3)) + at.pieces(self.bias.of_targets(at, k)).unsqueeze(2)
        own = (q * own_k).sum(3, keepdim=True) + self.bias.of_itself(q)[:, None, None]
        weights = torch.cat([past, own], 3).softmax(3)
        return self._finish(targets, torch.matmul(weights[..., :-1], at.pieces(v)) + weights[..., -1:] * own_v)


class TransformerStack(nn.Module):
    """`layers` of one kind of block. sasrec multiplies its input by sqrt(D), as the paper's code does, and adds a
    vector per place, counted from the target back.
    """

    reads_user = False

    def __init__(
        self,
        width: int,
        heads: int,
        length: int,
        layers: int,
        block: Block = "llama",
        residual: Residual = "pre",
        bias: Sequence[str] = (),
        band: int | None = None,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"transformer: layers is {layers}; give at least 1")
        if block not in ("sasrec", "llama"):
            raise UserError(f"transformer: block {block!r} is not one of sasrec, llama")
        if residual not in ("pre", "post"):
            raise UserError(f"transformer: residual {residual!r} is not one of pre, post")
        if width % heads or (block == "llama" and width // heads % 2):
            raise UserError(
                f"transformer: width {width} does not divide into {heads} heads{' of even width' * (block == 'llama')}"
            )
        self.output_width, self.length, self.scale = width, length, math.sqrt(width)
        self.places = nn.Parameter(0.02 * torch.randn(length + 1, width)) if block == "sasrec" else None
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, length, block, residual, bias, band) for _ in range(layers - 1)
        )
        self.closing = TransformerLayer(width, heads, length, block, residual, bias, band)
        self.depth, self.recorder = layers, Recorder()

    def widths(self) -> NetworkWidths:
        """Return the layers' widths, and `layers`: exact to grow where the norms stand before each part."""
        layers = {f"layers.{number}": widths_of(layer) for number, layer in enumerate(self.layers)}
        layers["closing"] = self.closing.widths()
        names = ("out.weight", "out.bias", "ffn.down.weight", "ffn.2.weight", "ffn.2.bias")
        found = stacked("layers", layers, names)
        if self.places is not None:
            found.dims["places"] = (out([len(self.places)]), out(["width"]))
        return found if self.closing.before else replace(found, inexact=found.inexact | {"layers"})

    def _placed(self, events: Tensor, at: Sequences) -> Tensor:
        """Return the events with the vectors of their places, where there are any."""
        if self.places is None:
            return events
        back = (at.lengths[:, None] - torch.arange(events.shape[1], device=events.device)).clamp(0, self.length)
        return events * self.scale + self.places.index_select(0, back.view(-1)).view(events.shape)

    def forward(self, events: Tensor, targets: Tensor, at: Sequences) -> Tensor:
        """Return targets [P, C, D] after all layers; events [R, L, D]."""
        events = self._placed(events, at)
        if self.places is not None:
            targets = targets * self.scale + self.places[0]
        for number, layer in enumerate(self.layers, 1):
            events, targets = layer(events, targets, at)
            self.recorder.keep(number, targets)
        targets = self.closing.last(events, targets, at)
        self.recorder.keep(self.depth, targets)
        return targets

    def states(self, events: Tensor, at: Sequences) -> Tensor:
        """Return events [R, L, D] after all layers, each having seen its past and itself."""
        no_targets = events.new_zeros(len(events), 0, events.shape[2])
        events = self._placed(events, at)
        for layer in (*self.layers, self.closing):
            events, _ = layer(events, no_targets, at)
        return events
