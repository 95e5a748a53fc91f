"""Slices of samples by one thing about them, as small numbers, for what is counted apart: gates, and
weights of teachers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.data.batch.batch import Batch
from recdistill.data.store.encoder import context_fields
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import EventSchema

__all__ = ["SLICES", "Slicer"]

SLICES = 64  # at most; of a feature with more values, several share one
HISTORY, HOUR = "history", "hour"


@dataclass(frozen=True)
class Slicer:
    """What slices are made of: the context field at `field`, or how many of the user's events are known, or nothing."""

    field: int | None = None
    history: bool = False

    @classmethod
    def of(cls, name: str | None, schema: EventSchema, key: str = "distill.gate.by") -> Slicer:
        """Return the slicer by a feature's name, "hour", or "history", of which a feature of that name comes first.

        UserError, about `key`, for any other name.
        """
        _, *fields = context_fields(schema)
        if name in fields:
            return cls(1 + fields.index(name))
        if name == HOUR:
            return cls(0)
        if name is None or name == HISTORY:
            return cls(None, name is not None)
        raise UserError(f"{key}: no feature '{name}'{did_you_mean(name, [HISTORY, HOUR, *fields])}")

    def codes(self, context: Tensor, lengths: Tensor) -> Tensor:
        """Return int64 [B] below SLICES of context ids [B, F] and lengths of history [B]: one slice where they are made
        of nothing.

        Lengths double from slice to slice: 0, 1, 2 to 3, 4 to 7 ...
        """
        if self.field is not None:
            return context[:, self.field].to(torch.int64) % SLICES
        if self.history:
            return torch.frexp(lengths.to(torch.float64)).exponent.to(torch.int64).clamp(max=SLICES - 1)
        return torch.zeros(len(lengths), dtype=torch.int64)

    def of_batch(self, batch: Batch) -> Tensor:
        """Return the slice of each of a batch's rows, int64 [B]."""
        return self.codes(batch.context.ids(), batch.history.lengths[batch.history.of])
