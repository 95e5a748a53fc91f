"""HSTU (2402.17152) and what ULTRA-HSTU (2602.16986) makes of it, with candidates as targets: each sees its history and
itself, never another candidate.

A history is encoded once, whoever looks at it; a candidate then passes the layers as if it alone were appended to it,
so any number of candidates share one history's keys and values (M-FALCON). An event is one token: item and action are
added up. Shapes as in request_layout.py; H heads, d = D / H.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from recdistill.errors import UserError
from recdistill.models.attention.blockwise import attend, band_bias
from recdistill.models.attention.float8 import same_products
from recdistill.models.encoders.packed import Sequences
from recdistill.models.encoders.position_bias import RelativeBias
from recdistill.models.layers.blocks import Dropout
from recdistill.models.layers.recorder import Recorder
from recdistill.models.widths import NetworkWidths, Part, joined, linear, norm, stacked, under, widths_of

__all__ = ["Columns", "HSTULayer", "HSTUStack"]

Columns = Literal["oldest", "newest"]
EPS = 1e-6  # of the layer norms, as in the public code


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Return [R, H, n, d] of [R, n, D]."""
    return x.view(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


class HSTULayer(nn.Module):
    """U, V, Q, K = SiLU(f1(LN(x))); y = f2(LN(A V) * U) + x, A = SiLU(Q K^T + position + time) / length, causal.

    Equations 1 to 3, and the constant and eps of the public code: only with both does LN leave something of how much
    there was to attend to, which it would else take away. length: that constant, and the largest distance with a
    position bias of its own. bias: which of the two there are. band: how many events back an event looks, itself among
    them (None: all); columns: in addition, that many of the `columns_at` end of the history (semi-local attention).
    Targets always see the whole history. key_width, value_width: of a head, D / H by default. dropout: of what f2
    takes.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        length: int,
        bias: Sequence[str] = ("position", "time"),
        band: int | None = None,
        columns: int = 0,
        columns_at: Columns = "oldest",
        key_width: int | None = None,
        value_width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.length, self.band, self.columns, self.columns_at = heads, length, band, columns, columns_at
        keys, values = (heads * (width // heads if one is None else one) for one in (key_width, value_width))
        self.sizes = [values, keys, values, keys]
        self.norm, self.mixed_norm = nn.LayerNorm(width, EPS), nn.LayerNorm(values, EPS)
        self.project, self.out = nn.Linear(width, sum(self.sizes)), nn.Linear(values, width)
        self.bias, self.dropout = RelativeBias(heads, length, bias), Dropout(dropout)

    def widths(self) -> NetworkWidths:
        """Return its widths: width, heads, key_width, value_width. No growth is exact: norms stand between them all."""
        value: Part = ("heads", "value_width")
        key: Part = ("heads", "key_width")
        dims = under("norm", norm(["width"])) | under("mixed_norm", norm([value])) | under("bias", self.bias.dims())
        dims |= under("project", linear([value, key, value, key], ["width"])) | under("out", linear(["width"], [value]))
        values, keys = (size // self.heads for size in self.sizes[:2])
        sizes = {"width": self.out.out_features, "heads": self.heads, "key_width": keys, "value_width": values}
        return NetworkWidths(sizes, dims, outputs=("width",), inexact=frozenset(sizes))

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Return the last `parts` of u, q, v, k of x [R, n, D]: u as [R, n, H * d], the others as [R, H, n, d]."""
        skipped, sizes = sum(self.sizes[: 4 - parts]), self.sizes[4 - parts :]
        weight, bias = self.project.weight[skipped:], self.project.bias[skipped:]
        found = functional.silu(functional.linear(self.norm(x), weight, bias)).split_with_sizes(sizes, -1)
        own = found[:1] if parts == 4 else ()
        return (*own, *(_by_head(part, self.heads) for part in found[len(own) :]))

    def _past(self, q: Tensor, k: Tensor, v: Tensor, at: Sequences) -> Tensor:
        """Return [R, H, L, d], what each event takes from its own past; q, k, v [R, H, L, d]."""
        length = q.shape[2]
        band = length if self.band is None else min(self.band, length)
        query, key, value = (part.flatten(0, 1) for part in (q, k, v))
        near, time = band_bias(self.bias.by_distance(q), length, band).to(q.dtype), self.bias.by_gap(at.ago, at.ago)
        attended = attend(query, key, value, near, time, heads=self.heads, band=band, alive=at.alive)
        if self.columns and band < length:
            attended = attended + (self._oldest if self.columns_at == "oldest" else self._newest)(
                query, key, value, at, band
            )
        return attended.view(v.shape)

    def _oldest(self, query: Tensor, key: Tensor, value: Tensor, at: Sequences, band: int) -> Tensor:
        """Return [N, L, d], what the history's first events beyond the band add."""
        count = min(self.columns, query.shape[1])
        steps = torch.arange(query.shape[1], device=query.device)
        bias = self.bias.beyond(steps[:, None] - steps[:count], band, query)
        time = self.bias.by_gap(at.ago, at.ago[:, :count])
        return attend(query, key[:, :count], value[:, :count], bias, time, heads=self.heads)

    def _newest(self, query: Tensor, key: Tensor, value: Tensor, at: Sequences, band: int) -> Tensor:
        """Return [N, L, d], what the history's last events beyond the band add: only they themselves are
        later than any of them.
        """
        count = min(self.columns, query.shape[1])
        steps = torch.arange(count, device=query.device)
        where = ((at.lengths - count).clamp(min=0)[:, None] + steps).clamp(max=query.shape[1] - 1)
        ago = at.ago.gather(1, where)
        real = (steps < at.lengths[:, None]).repeat_interleave(self.heads, 0).unsqueeze(2)
        where = where.repeat_interleave(self.heads, 0).unsqueeze(2)
        q, k, v = (part.gather(1, where.expand(-1, -1, part.shape[2])) for part in (query, key, value))
        bias = self.bias.beyond(steps[:, None] - steps, band, query)
        more = attend(q, k, v, bias, self.bias.by_gap(ago, ago), heads=self.heads) * real
        return torch.zeros_like(value).scatter_add(1, where.expand_as(more), more)

    def _close(self, x: Tensor, u: Tensor, mixed: Tensor) -> Tensor:
        mixed = self.mixed_norm(mixed.transpose(1, 2).flatten(2) / self.length)
        return torch.as_tensor(self.out(self.dropout(mixed * u)) + x)

    def forward(self, events: Tensor, targets: Tensor, at: Sequences) -> tuple[Tensor, Tensor]:
        """Return (events [R, L, D], targets [P, C, D]) after the layer."""
        u, q, v, k = self._split(events, 4)
        return self._close(events, u, self._past(q, k, v, at)), self._see(targets, v, k, at)

    def last(self, events: Tensor, targets: Tensor, at: Sequences) -> Tensor:
        """Return targets [P, C, D] after the layer; the events need no more than keys and values."""
        v, k = self._split(events, 2)
        return self._see(targets, v, k, at)

    def _see(self, targets: Tensor, v: Tensor, k: Tensor, at: Sequences) -> Tensor:
        """Attend from each target to its history and to itself; what is added to an event's score is one
        more of its key's columns.
        """
        u, q, own_v, own_k = self._split(targets, 4)
        key, value = at.pieces(torch.cat([k, self.bias.of_targets(at, k).unsqueeze(3)], 3)), at.pieces(v)
        query = torch.cat([q, torch.ones_like(q[..., :1])], 3)
        past = attend(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), heads=self.heads).view(own_v.shape)
        own = (q * own_k).sum(3, keepdim=True) + self.bias.of_itself(q)[:, None, None]
        return self._close(targets, u, past + functional.silu(own) * own_v)


class HSTUStack(nn.Module):
    """`layers` of HSTU, then `newest_layers` more on the newest `newest` events alone (attention truncation).

    recompute: forget what a layer made on the way and make it again for the backward pass. contextual: the user stands
    in front of the events, and every one of them sees it; truncation cuts it off. `layer`: see HSTULayer.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        length: int,
        layers: int,
        newest_layers: int = 0,
        newest: int = 0,
        recompute: bool = False,
        contextual: bool = False,
        **layer: Any,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"hstu: layers is {layers}; give at least 1")
        if width % heads and None in (layer.get("key_width"), layer.get("value_width")):
            raise UserError(f"hstu: width {width} is not a multiple of heads {heads}; change one of them")
        if contextual and layer.get("columns_at", "oldest") == "oldest":
            layer["columns"] = max(1, layer.get("columns", 0))
        if bool(newest_layers) != bool(newest):
            raise UserError(
                "hstu: newest_layers and newest go together: that many layers on that many events; set both or neither"
            )
        self.output_width, self.cut, self.newest, self.recompute = width, layers, newest, recompute
        self.reads_user = contextual
        self.layers = nn.ModuleList(HSTULayer(width, heads, length, **layer) for _ in range(layers + newest_layers - 1))
        self.closing = HSTULayer(width, heads, length, **layer)
        self.depth, self.recorder = layers + newest_layers, Recorder()

    def widths(self) -> NetworkWidths:
        """Return the layers' widths and, unless some of them see the newest events alone, `layers`."""
        layers = {f"layers.{number}": widths_of(layer) for number, layer in enumerate(self.layers)}
        layers["closing"] = self.closing.widths()
        if self.newest:
            return joined(layers, ("width",))
        return stacked("layers", layers, ("out.weight", "out.bias"))

    def forward(self, events: Tensor, targets: Tensor, at: Sequences, user: Tensor | None = None) -> Tensor:
        """Return targets [P, C, D] after all layers; events [R, L, D], user [R, D] for a stack that is contextual."""
        if user is not None:
            at, events = at.preceded(events, user)
        for number, layer in enumerate(self.layers):
            at, events = at.newest(events, self.newest) if number == self.cut else (at, events)
            if self.recompute and torch.is_grad_enabled():
                events, targets = checkpoint(layer, events, targets, at, use_reentrant=False, context_fn=same_products)
            else:
                events, targets = layer(events, targets, at)
            self.recorder.keep(number + 1, targets)
        at, events = at.newest(events, self.newest) if len(self.layers) == self.cut else (at, events)
        targets = self.closing.last(events, targets, at)
        self.recorder.keep(self.depth, targets)
        return targets

    def states(self, events: Tensor, at: Sequences) -> Tensor:
        """Return events [R, L, D] after all layers, each having seen its past and itself; no layer is truncated."""
        no_targets = events.new_zeros(len(events), 0, events.shape[2])
        for layer in (*self.layers, self.closing):
            events, _ = layer(events, no_targets, at)
        return events
