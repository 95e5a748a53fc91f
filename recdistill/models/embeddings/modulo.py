"""Which row each id reads where ids share rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Modulo"]


@dataclass(frozen=True)
class Modulo:
    """Id i reads row (i - 1) // every % most + 1: that of its remainder, or, where `every` is how many remainders there
    are, that of its quotient.
    """

    most: int
    every: int = 1

    def rows(self, ids: Tensor) -> Tensor:
        """Return int64 [n], from 1 to `most`, the row of each id; 0 for the padding."""
        return torch.where(ids == 0, 0, (ids - 1) // self.every % self.most + 1)
