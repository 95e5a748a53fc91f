"""LONGER (2505.04421): adjacent events merged into wider tokens, a layer in which few queries see all of them, then
layers among the few. The user, a learned token (CLS) and the candidate are global tokens: they see all events, as the
newest tokens of a causal order, so that no event sees them. No token sees a candidate, so that one history's keys and
values serve any number of them. Shapes as in request_layout.py; G = L / merge tokens of width W = merge * D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.data.batch.ages import GAPS, gap_bucket
from recdistill.errors import UserError
from recdistill.models.attention.target_ops import EMPTY
from recdistill.models.encoders.packed import Sequences
from recdistill.models.encoders.transformer import SwiGLU, TransformerLayer
from recdistill.models.layers.recorder import Recorder

__all__ = ["LongerStack", "merged"]


def merged(events: Tensor, at: Sequences, merge: int) -> tuple[Tensor, Tensor, Sequences]:
    """Return (events [R, G, merge, D] in groups that end with the newest, bool [R, G, merge] which are real, the
    groups' Sequences).

    Only the oldest group may be short; a group is as old as its newest event.
    """
    groups = -(-at.lengths // merge)
    most = -(-events.shape[1] // merge)
    step = torch.arange(most * merge, device=events.device) - (groups * merge - at.lengths)[:, None]
    real = (step >= 0) & (step < at.lengths[:, None])
    where = step.clamp(0, events.shape[1] - 1)
    rows = events.gather(1, where.unsqueeze(2).expand(-1, -1, events.shape[2])) * real.unsqueeze(2)
    ago, actions = (part.gather(1, where)[:, merge - 1 :: merge] for part in (at.ago, at.action))
    shape = (events.shape[0], most, merge)
    return rows.view(*shape, -1), real.view(shape), Sequences(ago, actions, groups, at.piece, None)


class _Inner(nn.Module):
    """Full attention within each group of adjacent events, then a feed-forward part (InnerTrans)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.ffn = SwiGLU(width, 2 * width)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        q, k, v = self.project(self.first(x)).chunk(3, -1)
        scores = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~real.unsqueeze(-2), EMPTY).softmax(-1)
        x = x + self.out(torch.matmul(weights, v))
        return torch.as_tensor((x + self.ffn(self.second(x))) * real.unsqueeze(-1))


class _Cross(nn.Module):
    """The newest tokens and the targets look at all tokens that are not later than they."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.before_q, self.before_k, self.second = (
            heads,
            nn.RMSNorm(width),
            nn.RMSNorm(width),
            nn.RMSNorm(width),
        )
        self.query, self.pair = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.out, self.ffn = nn.Linear(width, width, bias=False), SwiGLU(width, 8 * -(-width // 3))

    def keys(self, tokens: Tensor) -> list[Tensor]:
        """Return k and v [R, H, G, d]: what a server caches of a history."""
        return [
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.pair(self.before_k(tokens)).chunk(2, -1)
        ]

    def forward(self, queries: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
        """Return [R, n, W] of queries [R, n, W]; seen bool [R, n, G]."""
        weights = self._scores(queries, k, seen)[1].softmax(3) * seen.any(2)[:, None, :, None]
        return self._finish(queries, torch.matmul(weights, v))

    def see(self, targets: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
        """Return [P, C, W] of targets [P, C, W], each of which sees itself besides."""
        q, past = self._scores(targets, k, seen)
        own_k, own_v = self.keys(targets)
        own = (q * own_k).sum(3, keepdim=True) * q.shape[3] ** -0.5
        weights = torch.cat([past, own], 3).softmax(3)
        return self._finish(targets, torch.matmul(weights[..., :-1], v) + weights[..., -1:] * own_v)

    def _scores(self, queries: Tensor, k: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return (q [R, H, n, d], scores [R, H, n, G], EMPTY where not seen)."""
        q = self.query(self.before_q(queries)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        scores = torch.matmul(q, k.transpose(2, 3)) * q.shape[3] ** -0.5
        return q, scores.masked_fill(~seen.unsqueeze(1), EMPTY)

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return torch.as_tensor(x + self.ffn(self.second(x)))


class LongerStack(nn.Module):
    """Merge `merge` events a token, let the newest `queries` tokens see all, then `layers` among those.

    An event is its row plus a vector of its place, counted back from the newest, and one of the time from it to the
    target; the paper concatenates the latter, which is the same but for the linear map behind. Targets [P, C, D] come
    out [P, C, W].
    """

    reads_user = True

    def __init__(self, width: int, heads: int, length: int, layers: int = 1, merge: int = 4, queries: int = 32) -> None:
        super().__init__()
        wide = width * merge
        if layers < 1 or merge < 1 or queries < 1:
            raise UserError(f"longer: layers {layers}, merge {merge} and queries {queries} must be at least 1")
        if wide % heads or wide // heads % 2:
            raise UserError(f"longer: width {width} x merge {merge} does not divide into {heads} heads of even width")
        self.merge, self.queries, self.output_width = merge, queries, wide
        self.inner, self.enter, self.cross = _Inner(width), nn.Linear(width, wide), _Cross(wide, heads)
        self.user, self.summary = nn.Linear(width, wide), nn.Parameter(0.02 * torch.randn(wide))
        self.places = nn.Parameter(torch.zeros(length, width))
        self.times = nn.Parameter(torch.zeros(GAPS, width))
        groups = -(-length // merge)
        self.layers = nn.ModuleList(
            TransformerLayer(wide, heads, groups, "llama", "pre", (), None) for _ in range(layers - 1)
        )
        self.closing = TransformerLayer(wide, heads, groups, "llama", "pre", (), None)
        self.depth, self.recorder = layers + 1, Recorder()  # the cross-causal layer is one of them

    def _placed(self, events: Tensor, at: Sequences) -> Tensor:
        """Return events [R, L, D] with their places and times; padding is of no account."""
        back = (at.lengths[:, None] - 1 - torch.arange(events.shape[1], device=events.device)).clamp(
            0, len(self.places) - 1
        )
        return events + functional.embedding(back, self.places) + functional.embedding(gap_bucket(at.ago), self.times)

    def forward(self, events: Tensor, targets: Tensor, at: Sequences, user: Tensor) -> Tensor:
        """Return targets [P, C, W]; events [R, L, D], user [R, D]."""
        groups, real, all_ = merged(self._placed(events, at), at, self.merge)
        tokens = functional.layer_norm(self.inner(groups, real).flatten(2), (self.output_width,))
        known = self.user(user)
        more = torch.stack([known, self.summary.to(known.dtype).expand_as(known)], 1).to(tokens.dtype)
        all_, tokens = all_.followed(tokens, more)
        k, v = self.cross.keys(tokens)
        few, newest = all_.newest(tokens, self.queries + more.shape[1])
        place = (all_.lengths - few.lengths)[:, None] + torch.arange(newest.shape[1], device=events.device)
        seen = torch.arange(tokens.shape[1], device=events.device) <= place.unsqueeze(2)
        x = self.cross(newest, k, v, seen & (place < all_.lengths[:, None]).unsqueeze(2))
        visible = all_.pieces(all_.mask).unsqueeze(1).expand(-1, targets.shape[1], -1)
        entered = self.enter(targets).to(
            targets.dtype
        )  # under autocast it comes out short, and what follows is added to it
        targets = self.cross.see(entered, all_.pieces(k), all_.pieces(v), visible)
        self.recorder.keep(1, targets)
        for number, layer in enumerate(self.layers, 2):
            x, targets = layer(x, targets, few)
            self.recorder.keep(number, targets)
        targets = self.closing.last(x, targets, few)
        self.recorder.keep(self.depth, targets)
        return targets
