"""Where samples and events lie: padded per history, samples grouped by the history they share.

Shapes: B samples, R histories, L events of the longest, P groups of at most C samples (P = R but for a history with
far more samples than the others, which becomes several groups), D width.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recdistill.data.batch.ages import age_bucket
from recdistill.data.batch.batch import History
from recdistill.data.batch.moved import moved

__all__ = ["Groups", "LaidOut", "Layout", "WithLayout", "lay_out"]


@dataclass(frozen=True)
class Layout:
    """index, ago, action: int64 [R, L], oldest first, left-aligned, padding 0; mask: bool [R, L]; lengths: int64 [R].

    piece: int64 [P], the history of each group, None when group p is history p. slots: int64 [P * C], the sample in
    each slot (an empty slot names sample 0, and its result is never read); place: int64 [B], the slot of each
    sample; both None when slot b is sample b.
    """

    index: Tensor
    ago: Tensor
    action: Tensor
    mask: Tensor
    lengths: Tensor
    of: Tensor
    size: int
    piece: Tensor | None
    slots: Tensor | None
    place: Tensor | None

    def to(self, device: torch.device) -> Layout:
        """Return the layout on a device."""
        if device.type == "cpu":
            return self
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        there: dict[str, Any] = {
            name: moved(value, device) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **there)

    def group(self, x: Tensor) -> Tensor:
        """Return [P, C, ...] of per-sample [B, ...]."""
        flat = x if self.slots is None else x.index_select(0, self.slots)
        return flat.view(-1, self.size, *x.shape[1:])

    def ungroup(self, x: Tensor) -> Tensor:
        """Return [B, ...] of per-slot [P, C, ...]."""
        flat = x.flatten(0, 1)
        return flat if self.place is None else flat.index_select(0, self.place)

    def occupied(self) -> Tensor:
        """Return bool [P, C], False for empty slots; in a graph, where nothing learns of them, True for all."""
        if self.slots is not None and torch.compiler.is_exporting():
            return torch.ones(self.slots.shape[0] // self.size, self.size, dtype=torch.bool, device=self.of.device)
        if self.place is None:
            return torch.ones(self.of.shape[0] // self.size, self.size, dtype=torch.bool, device=self.of.device)
        taken = torch.zeros(self.slots.shape if self.slots is not None else (), dtype=torch.bool, device=self.of.device)
        taken[self.place] = True
        return taken.view(-1, self.size)

    def pieces(self, x: Tensor) -> Tensor:
        """Return [P, ...] of per-history [R, ...]."""
        return x if self.piece is None else x.index_select(0, self.piece)

    def events(self, rows: Tensor) -> Tensor:
        """Return [R, L, D], the event vectors, of `rows` [U, D]; padding gives row 0."""
        return rows.index_select(0, self.index.view(-1)).view(*self.index.shape, rows.shape[1])


class Groups(NamedTuple):
    """Which candidates share a history, int64: row [B], the history of each; slots [R, C], the candidates of each
    history, then anything; place [B], where each candidate stands among the slots.
    """

    row: Tensor
    slots: Tensor
    place: Tensor


@dataclass(frozen=True)
class WithLayout(History):
    """Histories whose layout was made before a network asks for it, and may be on the device already."""

    layout: Layout


@dataclass(frozen=True)
class LaidOut(WithLayout):
    """Histories that are nothing but laid out, what a graph for any number of users and candidates is made of: jagged,
    they are all of L events, of which those behind the real ones are padding.
    """

    @classmethod
    def of_rows(
        cls, unique: Tensor, index: Tensor, ago: Tensor, action: Tensor, events: Tensor, groups: Groups
    ) -> LaidOut:
        """Return the histories, int64 [R, L] each, of which the first `events` (int64 [R]) are real."""
        rows, length = index.shape
        mask = torch.arange(length) < events[:, None]
        shown, past, kind = (part * mask for part in (index, ago, action))
        row, slots, place = groups
        layout = Layout(shown, past, kind, mask, events, row, slots.shape[1], None, slots.flatten(), place)
        offsets = length * torch.arange(rows + 1)
        return cls(unique, shown.flatten(), past.flatten(), kind.flatten(), offsets, row, layout)

    @property
    def lengths(self) -> Tensor:
        """Return int64 [R], events per history."""
        return self.layout.lengths

    def dense(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (index, age, action, mask), each [R, L]."""
        layout = self.layout
        return layout.index, age_bucket(layout.ago) * layout.mask, layout.action, layout.mask


def lay_out(history: History) -> Layout:
    """Return the layout of a batch's histories. A uniform batch in request order costs no reordering at all."""
    if isinstance(history, WithLayout):
        return history.layout
    lengths, samples = history.lengths, len(history.of)
    longest = max(int(lengths.max()) if len(lengths) else 0, 1)
    step = torch.arange(longest)
    mask = step < lengths[:, None]
    if len(history.index):
        at = (history.offsets[:-1, None] + step).masked_fill_(~mask, 0).view(-1)
        index, ago, action = (
            part.index_select(0, at).view(mask.shape).mul_(mask)
            for part in (history.index, history.ago, history.action)
        )
    else:
        index, ago, action = (torch.zeros(mask.shape, dtype=torch.int64) for _ in range(3))
    size, piece, slots, place = _grouping(history.of, len(lengths), samples)
    return Layout(index, ago, action, mask, lengths, history.of, size, piece, slots, place)


def _grouping(of: Tensor, histories: int, samples: int) -> tuple[int, Tensor | None, Tensor | None, Tensor | None]:
    """Return (C, piece, slots, place); C is at most twice the mean, so P * C stays within a few times B."""
    size = max(1, samples // max(histories, 1))
    if size * histories == samples and torch.equal(of, torch.arange(samples) // size):
        return size, None, None, None
    counts = torch.bincount(of, minlength=histories)
    size = min(int(counts.max()), 2 * -(-samples // histories))
    groups = (counts + size - 1) // size
    order = torch.argsort(of, stable=True)
    owner = of[order]
    rank = torch.arange(samples) - (counts.cumsum(0) - counts)[owner]
    place = torch.empty(samples, dtype=torch.int64)
    place[order] = ((groups.cumsum(0) - groups)[owner] + rank // size) * size + rank % size
    slots = torch.zeros(int(groups.sum()) * size, dtype=torch.int64)
    slots[place] = torch.arange(samples)
    piece = None if bool((groups == 1).all()) else torch.repeat_interleave(torch.arange(histories), groups)
    return size, piece, slots, place
