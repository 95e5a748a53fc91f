"""Sequences that rows bring next to the history: each becomes a few features of the candidate.

A unit says how much each entry counts for a candidate: DIN's own, or the softmax of scaled dot products; the entries'
sum under these weights is the sequence's vector. Entries carry their age and their place, counted from the newest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recdistill.data.batch.ages import AGES, age_bucket, doublings
from recdistill.data.batch.batch import Batch, History
from recdistill.models.attention.request_layout import Layout, lay_out
from recdistill.models.attention.target_ops import EMPTY, dots, weighted_sum
from recdistill.models.widths import Dim, Part, out, under

__all__ = ["FEATURES", "Alike", "DotUnit", "SequencePools", "pooled"]

PLACES = 18  # log2 buckets of how many entries came after; the last from 65,536 on
FEATURES = 2  # of a sequence, besides its vector


class DotUnit(nn.Module):
    """Softmax over entries of scaled dot products with the candidate; has no weights."""

    def forward(self, query: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Return weights [P, L, C], 0 where mask [P, L, C] is False; query [P, C, D], events [P, L, D]."""
        scores = dots(query, events).transpose(1, 2) * query.shape[2] ** -0.5
        weights: Tensor = scores.masked_fill(~mask, EMPTY).softmax(1)
        return weights * mask


class Alike(nn.Module):
    """The mean: every entry counts alike; has no weights."""

    def forward(self, query: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Return weights [P, L, C] as `DotUnit` does."""
        return mask / mask.sum(1, keepdim=True).clamp(min=1).to(events.dtype)


def pooled(unit: nn.Module, candidate: Tensor, events: Tensor, layout: Layout) -> Tensor:
    """Return [B, D], sums of events [R, L, D] under the unit's weights for candidates [B, D]."""
    events = layout.pieces(events)
    mask = layout.pieces(layout.mask).unsqueeze(2) & layout.occupied().unsqueeze(1)
    return layout.ungroup(weighted_sum(unit(layout.group(candidate), events, mask), events))


class SequencePools(nn.Module):
    """`count` sequences, each with a unit of its own; width: of all their features together.

    Of each sequence: its vector, that one's dot product with the candidate, and ln(1 + entries).
    """

    def __init__(self, count: int, width: int, unit: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.units = nn.ModuleList(unit() for _ in range(count))
        self.ages = nn.ParameterList(torch.zeros(AGES, width) for _ in range(count))
        self.places = nn.ParameterList(torch.zeros(PLACES, width) for _ in range(count))
        self.width = count * (width + FEATURES)

    def dims(self, made: Part, reads: bool = False) -> dict[str, tuple[Dim, ...]]:
        """Return the dimensions of its parameters, of entries that are `made` wide."""
        found = dict[str, tuple[Dim, ...]]()
        for number, unit in enumerate(self.units):
            own = getattr(unit, "dims", None)
            found |= {
                f"ages.{number}": (out([AGES]), Dim((made,), reads)),
                f"places.{number}": (out([PLACES]), Dim((made,), reads)),
            }
            found |= under(f"units.{number}", own(made)) if own is not None else {}
        return found

    def outputs(self, made: Part) -> tuple[Part, ...]:
        """Return the parts of what it makes: of each sequence its vector and FEATURES."""
        return (made, (FEATURES,)) * len(self.units)

    def forward(self, batch: Batch, candidate: Tensor, table: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return [[B, D + FEATURES]] per sequence, of candidates [B, D] and the table of the entries' rows."""
        given = batch.sequences[: len(self.units)]  # a network that was built for none reads none
        return [self._one(number, one, candidate, table) for number, one in enumerate(given)]

    def _one(self, number: int, given: History, candidate: Tensor, table: Callable[[Tensor], Tensor]) -> Tensor:
        layout = lay_out(given).to(candidate.device)
        events = layout.events(table(given.unique)) + self._when(number, layout)
        vector = pooled(self.units[number], candidate, events, layout)
        length = torch.log1p(layout.lengths.to(vector.dtype)).index_select(0, layout.of)
        return torch.cat([vector, torch.stack([(vector * candidate).sum(1), length], 1)], 1)

    def _when(self, number: int, layout: Layout) -> Tensor:
        """Return [R, L, D], the vectors of the entries' ages and places; anything where there is no entry."""
        steps = torch.arange(layout.mask.shape[1], device=layout.mask.device)
        later = (layout.lengths[:, None] - 1 - steps).clamp(min=0)
        place, age = doublings(later, PLACES), age_bucket(layout.ago)
        shape = *age.shape, self.ages[number].shape[1]
        both = self.ages[number].index_select(0, age.view(-1)) + self.places[number].index_select(0, place.view(-1))
        return torch.as_tensor(both.view(shape))
