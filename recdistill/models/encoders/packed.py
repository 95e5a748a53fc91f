"""Histories on their way through the layers of an encoder: longest first, so that no block works for those that have
ended.

Shapes as in request_layout.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.models.attention.blockwise import BLOCK
from recdistill.models.attention.request_layout import Layout

FOREVER = 1 << 60  # us before a sample; a gap of so long is in the last bucket of time

__all__ = ["Sequences", "one_sequence", "sequences"]


@dataclass(frozen=True)
class Sequences:
    """ago, action: int64 [R, L], left-aligned, oldest first; lengths: int64 [R]; piece: int64 [P], the row of each
    group of samples, None when group p is row p; alive: how many rows reach each block of BLOCK events, None when not
    longest first.
    """

    ago: Tensor
    action: Tensor
    lengths: Tensor
    piece: Tensor | None
    alive: tuple[int, ...] | None

    @classmethod
    def of(cls, layout: Layout) -> tuple[Sequences, Tensor | None]:
        """Return (the layout's histories longest first, int64 [R] their rows in the layout, or None when it
        has them so).
        """
        lengths = layout.lengths
        if torch.compiler.is_exporting() or len(lengths) == 1:  # a graph does not look at lengths
            return cls(layout.ago, layout.action, lengths, layout.piece, None), None
        if bool((lengths[1:] <= lengths[:-1]).all()):
            return cls(layout.ago, layout.action, lengths, layout.piece, _alive(lengths, layout.ago.shape[1])), None
        order = torch.argsort(lengths, descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device)
        piece = rank if layout.piece is None else rank.index_select(0, layout.piece)
        lengths = lengths.index_select(0, order)
        ago, action = layout.ago.index_select(0, order), layout.action.index_select(0, order)
        return cls(ago, action, lengths, piece, _alive(lengths, layout.ago.shape[1])), order

    @property
    def mask(self) -> Tensor:
        """Return bool [R, L], False for padding."""
        return torch.arange(self.ago.shape[1], device=self.ago.device) < self.lengths[:, None]

    def pieces(self, x: Tensor) -> Tensor:
        """Return [P, ...] of per-history [R, ...]."""
        return x if self.piece is None else x.index_select(0, self.piece)

    def newest(self, x: Tensor, keep: int) -> tuple[Sequences, Tensor]:
        """Return the newest `keep` events of every history, and x [R, L, D] of those."""
        if self.ago.shape[1] <= keep:
            return self, x
        at = (torch.arange(keep, device=x.device) + (self.lengths - keep).clamp(min=0)[:, None]).clamp(
            max=self.ago.shape[1] - 1
        )
        return self.only(x, at, self.lengths.clamp(max=keep))

    def preceded(self, x: Tensor, first: Tensor) -> tuple[Sequences, Tensor]:
        """Return the histories with one more event each, `first` [R, D], longer ago than any; x [R, L, D] with it."""
        ago, action = (
            torch.cat([part.new_full((part.shape[0], 1), value), part], 1)
            for part, value in ((self.ago, FOREVER), (self.action, 0))
        )
        lengths = self.lengths + 1
        alive = None if self.alive is None else _alive(lengths, ago.shape[1])
        return Sequences(ago, action, lengths, self.piece, alive), torch.cat([first.unsqueeze(1), x], 1)

    def followed(self, x: Tensor, last: Tensor) -> tuple[Sequences, Tensor]:
        """Return the histories with n more tokens each, `last` [R, n, D], behind their last event; x [R, L, D] too."""
        more = last.shape[1]
        ago, action = (torch.cat([part, part.new_zeros(part.shape[0], more)], 1) for part in (self.ago, self.action))
        at = (self.lengths[:, None] + torch.arange(more, device=x.device)).unsqueeze(2).expand_as(last)
        rows = torch.cat([x, torch.zeros_like(last)], 1).scatter(1, at, last)
        lengths = self.lengths + more
        alive = None if self.alive is None else _alive(lengths, ago.shape[1])
        return Sequences(ago, action, lengths, self.piece, alive), rows

    def only(self, x: Tensor, at: Tensor, lengths: Tensor) -> tuple[Sequences, Tensor]:
        """Return the histories of the events `at` (int64 [R, n], ascending), `lengths` of each; rows stay
        where they are.
        """
        rows = x.gather(1, at.unsqueeze(2).expand(-1, -1, x.shape[2]))
        ordered = self.alive is not None and bool((lengths[1:] <= lengths[:-1]).all())
        alive = _alive(lengths, at.shape[1]) if ordered else None
        return Sequences(self.ago.gather(1, at), self.action.gather(1, at), lengths, self.piece, alive), rows

    def shortened(self, x: Tensor, lengths: Tensor, draws: torch.Generator | None = None) -> tuple[Sequences, Tensor]:
        """Return the histories cut to `lengths` (int64 [R]) events drawn at random, and x [R, L, D] of those, zero for
        padding.

        draws: the host's generator, torch's own by default; what is drawn is the same wherever a model computes.
        """
        if torch.equal(lengths, self.lengths):
            return self, x
        drawn = torch.rand(self.ago.shape, generator=draws, device="cpu").to(x.device)
        rank = drawn.masked_fill_(~self.mask, 2.0).argsort(dim=1, stable=True).argsort(1)  # padding comes last
        kept = (rank < lengths[:, None]) & self.mask
        at = torch.argsort(~kept, dim=1, stable=True)[:, : max(int(lengths.max()), 1)]
        fewer, rows = self.only(x, at, lengths)
        return fewer, rows * fewer.mask.unsqueeze(2)

    def of_actions(self, x: Tensor, actions: Tensor) -> tuple[Sequences, Tensor]:
        """Return the events with one of `actions` (int64), and x [R, L, D] of those."""
        kept = (self.action.unsqueeze(2) == actions.to(self.action.device)).any(2) & self.mask
        lengths = kept.sum(1)
        places = torch.arange(kept.shape[1], device=kept.device)
        at = torch.argsort(places + ~kept * len(places), dim=1)[:, : _longest(lengths, len(places))]
        return self.only(x, at, lengths)


def _longest(lengths: Tensor, room: int) -> int:
    """Return the most events of a history, at least 1; in a graph, which cannot look at values, as many as fit."""
    return room if torch.compiler.is_exporting() else max(int(lengths.max()), 1)


def _alive(lengths: Tensor, longest: int) -> tuple[int, ...]:
    starts = torch.arange(0, max(longest, 1), BLOCK)
    return tuple((lengths.cpu()[:, None] > starts).sum(0).tolist())


def sequences(lengths: Tensor, ago: Tensor, action: Tensor) -> tuple[Sequences, Tensor]:
    """Return (the histories of `lengths` int64 [R], longest first, one group each; bool [R, L] where their events lie).

    ago, action: int64 [T], history after history.
    """
    mask = torch.arange(max(int(lengths.max()), 1), device=lengths.device) < lengths[:, None]
    times, actions = ago.new_zeros(mask.shape), action.new_zeros(mask.shape)
    times[mask], actions[mask] = ago, action
    return Sequences(times, actions, lengths, None, _alive(lengths, mask.shape[1])), mask


def one_sequence(length: int, device: torch.device | str = "cpu") -> Sequences:
    """Return a batch of one history of `length` events, with one group of samples; on the meta device it
    costs nothing.
    """
    zeros = torch.zeros(1, max(length, 1), dtype=torch.int64, device=device)
    return Sequences(zeros, zeros, torch.full((1,), length, dtype=torch.int64, device=device), None, None)
