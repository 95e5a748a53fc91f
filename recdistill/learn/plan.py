"""Which rows are learned when: a pure function of the seed and the block, so that a resumed run does the same again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recdistill.config import ModelConfig
from recdistill.data.sampling import kept

__all__ = ["Plan", "Step", "kept"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Step:
    """rows: int64 [B] store positions; record: whether these rows are met for the first time, in time order."""

    rows: Array
    record: bool


@dataclass(frozen=True)
class Plan:
    """The blocks of one model's training: one prequential pass over `rows` samples, then `epochs` shuffled ones.

    A block is what one commit of predictions and one checkpoint cover.
    """

    rows: int
    block_rows: int
    batch: int
    replay: int
    replay_window: int
    epochs: int
    seed: int

    @classmethod
    def of(cls, config: ModelConfig, rows: int, block_rows: int, seed: int) -> Plan:
        """Return the plan of a model over a log of `rows` samples."""
        return cls(rows, block_rows, config.batch, config.replay, config.replay_window, config.epochs, seed)

    @property
    def blocks_per_pass(self) -> int:
        """Return how many blocks one pass over the log takes."""
        return -(-self.rows // self.block_rows)

    @property
    def blocks(self) -> int:
        """Return how many blocks there are in all."""
        return self.blocks_per_pass * (1 + self.epochs)

    def span(self, block: int) -> tuple[int, int]:
        """Return the [low, high) rows of a block within its pass."""
        low = block % self.blocks_per_pass * self.block_rows
        return low, min(low + self.block_rows, self.rows)

    def steps(self, block: int) -> Iterator[Step]:
        """Yield the steps of a block: fresh rows in order, each followed by `replay` draws from the rows just before."""
        draw = np.random.default_rng((self.seed, block))
        epoch, (low, high) = block // self.blocks_per_pass, self.span(block)
        order = np.arange(low, high)
        if epoch:
            shuffled = np.random.default_rng((self.seed, epoch, 7)).permutation(self.rows)
            order = shuffled[low:high]
        for at in range(0, len(order), self.batch):
            fresh = order[at : at + self.batch]
            yield Step(fresh, record=epoch == 0)
            seen = low + at + len(fresh)
            for _ in range(self.replay if epoch == 0 else 0):
                first = max(0, seen - self.replay_window)
                yield Step(np.sort(draw.integers(first, seen, len(fresh))), record=False)
