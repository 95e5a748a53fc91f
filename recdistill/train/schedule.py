"""Which rows are learned when: a pure function of the seed and the block, so that a resumed run does the same again.

Where labels are known with their samples, a row is predicted and learned in one step. Where they are known later, or
the weights are to be stale, rows are predicted when they happen and learned in whole batches once they may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recdistill.config.models import ModelConfig, StaleConfig, StudentConfig, TeacherConfig
from recdistill.data.sampling import kept
from recdistill.data.store.label_order import ALWAYS, NEVER, LabelOrder
from recdistill.errors import UserError
from recdistill.typing import Array

__all__ = ["Plan", "Step", "check_points", "kept"]

FRESH = StaleConfig()


@dataclass(frozen=True)
class Step:
    """rows: int64 [B] store positions; record: whether these rows are met for the first time, in time order; learn:
    whether to.

    first: whether they are learned for the first time, the late ones aside. now: us, as of when their labels count,
    one for all or one per row. late, late_share: int16 [B] and float32 [K], see `LabelOrder`, None without any.
    """

    rows: Array
    record: bool
    learn: bool = True
    first: bool = False
    now: Array | int = NEVER
    late: Array | None = None
    late_share: Array | None = None


@dataclass(frozen=True)
class Plan:
    """The blocks of one model's training: one prequential pass over `rows` samples, then `epochs` shuffled ones.

    A block is what one commit of predictions and one checkpoint cover. stale: how old the weights are that it predicts
    with; times: int64 [rows] us, which that and `order` need; order: of labels that are known later than their samples.
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
    order: LabelOrder | None = None

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        rows: int,
        block_rows: int,
        seed: int,
        times: Array | None = None,
        order: LabelOrder | None = None,
    ) -> Plan:
        """Return the plan of a model over a log of `rows` samples."""
        stale = config.stale if isinstance(config, TeacherConfig) else FRESH
        return cls(
            rows,
            block_rows,
            config.batch,
            config.replay,
            config.replay_window,
            config.epochs,
            seed,
            stale,
            times,
            order,
        )

    @property
    def blocks_per_pass(self) -> int:
        """Return how many blocks one pass over the log takes."""
        return -(-self.rows // self.block_rows)

    @property
    def blocks(self) -> int:
        """Return how many blocks there are in all."""
        return self.blocks_per_pass * (1 + self.epochs)

    @property
    def end(self) -> int:
        """Return the time of the last row, us; later labels are never learned."""
        return NEVER if self.order is None or self.times is None else int(self.times[self.rows - 1])

    @property
    def learned_rows(self) -> int:
        """Return how many rows all steps learn together, those again that are learned again."""
        once = self.rows if self.stale.fresh and self.order is None else self._may_be_learned(self.rows)
        return once * (1 + self.replay) + self.rows * self.epochs

    def block_at(self, share: float) -> int:
        """Return the block of the first pass in which that share of the log ends."""
        return int(round(share * self.rows, 6)) // self.block_rows  # 0.29 * 100 is less than 29

    def span(self, block: int) -> tuple[int, int]:
        """Return the [low, high) rows of a block within its pass."""
        low = block % self.blocks_per_pass * self.block_rows
        return low, min(low + self.block_rows, self.rows)

    def steps(self, block: int) -> Iterator[Step]:
        """Yield the steps of a block: fresh rows in order, those learned followed by `replay` draws of as many from the
        rows learned just before.
        """
        if block >= self.blocks_per_pass:
            return self._shuffled_steps(block)
        return self._steps_at_once(block) if self.stale.fresh and self.order is None else self._steps_later(block)

    def _steps_at_once(self, block: int) -> Iterator[Step]:
        draw, (low, high) = np.random.default_rng((self.seed, block)), self.span(block)
        for at in range(low, high, self.batch):
            fresh = np.arange(at, min(at + self.batch, high))
            yield Step(fresh, record=True, first=True)
            for again in self._replayed(draw, at + len(fresh), len(fresh)):
                yield Step(again, record=False)

    def _steps_later(self, block: int) -> Iterator[Step]:
        draw, (low, high) = np.random.default_rng((self.seed, block)), self.span(block)
        learned = self._may_be_learned(low)
        for at in range(low, high, self.batch):
            fresh = np.arange(at, min(at + self.batch, high))
            yield Step(fresh, record=True, learn=False)
            ready = self._may_be_learned(int(fresh[-1]) + 1)
            for first in range(learned, ready, self.batch):
                yield self._entries(np.arange(first, first + self.batch))
                for again in self._replayed(draw, first + self.batch, self.batch):
                    rows = again if self.order is None else np.asarray(self.order.rows[again])
                    yield Step(rows, record=False, now=self._time(int(fresh[-1])))
            learned = max(learned, ready)

    def _shuffled_steps(self, block: int) -> Iterator[Step]:
        order = np.random.default_rng((self.seed, block // self.blocks_per_pass, 7)).permutation(self.rows)
        low, high = self.span(block)
        for at in range(low, high, self.batch):
            yield Step(order[at : min(at + self.batch, high)], record=False, now=self.end)

    def _entries(self, at: Array) -> Step:
        """Return the step that learns what may be learned at these places of the order."""
        if self.order is None:
            return Step(at, record=False, first=True)
        share = self.order.late_share_at(int(at[0]))
        at = at[np.argsort(self.order.rows[at], kind="stable")]  # neighbours of one request share their history
        late = np.asarray(self.order.late[at])
        return Step(
            np.asarray(self.order.rows[at]),
            record=False,
            first=True,
            now=np.asarray(self.order.at[at]) + 1,  # what was known by then counts
            late=late if (late >= 0).any() else None,
            late_share=share,
        )

    def _replayed(self, draw: np.random.Generator, seen: int, rows: int) -> Iterator[Array]:
        """Yield `replay` times so many places drawn from the last `replay_window` of those learned."""
        first = max(0, seen - self.replay_window)
        for _ in range(self.replay):
            yield np.sort(draw.integers(first, seen, rows))

    def _time(self, row: int) -> int:
        return NEVER if self.order is None or self.times is None else int(self.times[row])

    def _may_be_learned(self, predicted: int) -> int:
        """Return how many entries, in whole batches, are learned once `predicted` rows are."""
        if self.order is None or self.times is None:
            ready = self._old_enough(predicted)
        else:
            ready = self.order.known_before(int(self.times[predicted - 1]) if predicted else ALWAYS)
            if not self.stale.fresh:
                ready = min(ready, self.order.of_rows_below(self._old_enough(predicted)))
        return max(ready, 0) // self.batch * self.batch

    def _old_enough(self, predicted: int) -> int:
        """Return how many of the oldest rows a model as stale as it shall be may have learned."""
        if self.stale.steps:
            return predicted - self.stale.steps * self.batch
        if self.stale.versions:
            return (predicted // self.block_rows - self.stale.versions + 1) * self.block_rows
        times = self.times if self.times is not None else np.zeros(0, np.int64)
        newest = int(times[predicted - 1]) if predicted else np.iinfo(np.int64).min // 2
        return int(np.searchsorted(times[:predicted], newest - int(self.stale.hours * 3.6e9), side="right"))


def check_points(name: str, config: ModelConfig, plan: Plan) -> None:
    """Raise UserError, for the model `name`, where a point of the log from which it is to begin is before the first
    checkpoint, or its rows are to be frozen for less than one.
    """
    start = config.distill.warm_start if isinstance(config, StudentConfig) else None
    for key, one in (("pretrain", config.pretrain), ("warm_start", start)):
        if one is not None and not plan.block_at(one.at):
            raise UserError(
                f"{name}: {key}.at {one.at:g} of {plan.rows:,} samples ends before the first checkpoint; lower "
                f"checkpoint_rows, which is {plan.block_rows:,}"
            )
    if start and start.frozen and start.thaw < 1 and plan.block_at(start.at) == plan.block_at(start.thaw):
        raise UserError(
            f"{name}: warm_start.frozen {start.frozen:g} of {plan.rows:,} samples ends before the next checkpoint; "
            f"lower checkpoint_rows, which is {plan.block_rows:,}, or leave frozen out"
        )
