"""The state behind one block of a network, kept aside while it computes: what a teacher's hidden state may be."""

from __future__ import annotations

from torch import Tensor

__all__ = ["Recorder"]


class Recorder:
    """Keeps what one block of a pass gave, without its gradient; block: its number from 1, 0 for none."""

    def __init__(self) -> None:
        self.block = 0
        self._state: Tensor | None = None

    def keep(self, block: int, state: Tensor) -> None:
        """Keep a block's state, of any shape, where it is the one that is asked for."""
        if block == self.block:
            self._state = state.detach()

    def taken(self) -> Tensor:
        """Return the state of the last pass, and forget it. Raises ValueError without one."""
        if self._state is None:
            raise ValueError("no pass was recorded")
        state, self._state = self._state, None
        return state
