"""Which rows are learned when: a pure function of the seed and the block, so that a resumed run does the same again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recdistill.config.models import ModelConfig, StaleConfig, TeacherConfig
from recdistill.data.sampling import kept
from recdistill.typing import Array

__all__ = ["Plan", "Step", "kept"]

FRESH = StaleConfig()


@dataclass(frozen=True)
class Step:
    """rows: int64 [B] store positions; record: whether these rows are met for the first time, in time
    order; learn: whether to.
    """

    rows: Array
    record: bool
    learn: bool = True


@dataclass(frozen=True)
class Plan:
    """The blocks of one model's training: one prequential pass over `rows` samples, then `epochs` shuffled ones.

    A block is what one commit of predictions and one checkpoint cover. stale: how old the weights are that it predicts
    with; times: int64 [rows] us, which that may need.
    """

    rows: int
    block_rows: int
    batch: int
    replay: int
    replay_window: int
    epochs: int
    seed: int
    stale: StaleConfig = FRESH
    times: Array | None = None

    @classmethod
    def of(cls, config: ModelConfig, rows: int, block_rows: int, seed: int, times: Array | None = None) -> Plan:
        """Return the plan of a model over a log of `rows` samples."""
        stale = config.stale if isinstance(config, TeacherConfig) else FRESH
        return cls(
            rows, block_rows, config.batch, config.replay, config.replay_window, config.epochs, seed, stale, times
        )

    @property
    def blocks_per_pass(self) -> int:
        """Return how many blocks one pass over the log takes."""
        return -(-self.rows // self.block_rows)

    @property
    def blocks(self) -> int:
        """Return how many blocks there are in all."""
        return self.blocks_per_pass * (1 + self.epochs)

    def block_at(self, share: float) -> int:
        """Return the block of the first pass in which that share of the log ends."""
        return int(share * self.rows) // self.block_rows

    def span(self, block: int) -> tuple[int, int]:
        """Return the [low, high) rows of a block within its pass."""
        low = block % self.blocks_per_pass * self.block_rows
        return low, min(low + self.block_rows, self.rows)

    def steps(self, block: int) -> Iterator[Step]:
        """Yield the steps of a block: fresh rows in order, each followed by `replay` draws from the rows just before.

        A stale model predicts fresh rows without learning them, and learns older ones, in whole batches, as they become
        old enough.
        """
        if not self.stale.fresh:
            yield from self._stale_steps(block)
            return
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

    def _stale_steps(self, block: int) -> Iterator[Step]:
        low, high = self.span(block)
        learned = self._old_enough(low)
        for at in range(low, high, self.batch):
            fresh = np.arange(at, min(at + self.batch, high))
            yield Step(fresh, record=True, learn=False)
            ready = self._old_enough(int(fresh[-1]) + 1)
            for first in range(learned, ready, self.batch):
                yield Step(np.arange(first, first + self.batch), record=False)
            learned = max(learned, ready)

    def _old_enough(self, predicted: int) -> int:
        """Return how many rows, in whole batches, are learned once `predicted` rows are."""
        if self.stale.steps:
            rows = predicted - self.stale.steps * self.batch
        elif self.stale.versions:
            rows = (predicted // self.block_rows - self.stale.versions + 1) * self.block_rows
        else:
            times = self.times if self.times is not None else np.zeros(0, np.int64)
            newest = int(times[predicted - 1]) if predicted else np.iinfo(np.int64).min // 2
            rows = int(np.searchsorted(times[:predicted], newest - int(self.stale.hours * 3.6e9), side="right"))
        return max(rows, 0) // self.batch * self.batch
