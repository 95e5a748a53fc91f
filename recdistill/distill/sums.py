"""What is summed over the processes that share a step's rows, where there are several; nothing is here for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

__all__ = ["ONE", "Sums"]


class Sums(Protocol):
    """The processes that share a step's rows, as `Ranks` does it."""

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes, in one message; a call of all together."""


class _One:
    """One process alone."""

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Leave them."""


ONE = _One()
