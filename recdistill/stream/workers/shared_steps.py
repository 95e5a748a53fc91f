"""The steps of a stream's model, whose rows several ranks share: the first one follows the tables, joins, builds
batches and records; the others do what it orders, and keep their share of embedding rows and checkpoints.

    first rank ---- begin, resize, steps, publish, rest, end; parts of batches ---> the others
               <--- logits of their parts, gradients, rows ----------------
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.data.batch.batch import Batch, History, Lookup, Vectors
from recdistill.distill.debias import KeepRates
from recdistill.distill.losses import Shares
from recdistill.distributed.objects import given_out, to_first
from recdistill.distributed.ranks import Ranks
from recdistill.train.learner import Learner, StepResult
from recdistill.train.step import Outcome, Prepared, shares_of, steps, unlearned
from recdistill.typing import Array

__all__ = ["Begin", "SharedSteps", "follow"]

REST = 5.0  # seconds after which the others are to know that there is nothing to do: none waits longer than its timeout
Prepare = Callable[[Array], Prepared]


@dataclass(frozen=True)
class Begin:
    """Start as the batch phase left the model, or from the stream's checkpoint `block`. actions: how many kinds of them
    there are; rates: of the teacher's signals, per task.
    """

    block: int | None
    actions: int
    rates: Sequence[KeepRates] | None


@dataclass(frozen=True)
class _Steps:
    """Take as many steps."""

    count: int


@dataclass(frozen=True)
class _Publish:
    """Write your share of the checkpoint after so many rows."""

    rows: int


@dataclass(frozen=True)
class _Resize:
    """Give the network the widths of this version."""

    version: int


@dataclass(frozen=True)
class _Rest:
    """Nothing to do now."""


@dataclass(frozen=True)
class _End:
    """There is nothing more."""


ORDERS = (Begin, _Steps, _Publish, _Resize, _Rest, _End)
KNOWN = (*ORDERS, KeepRates, Prepared, Shares, Batch, History, Lookup, Vectors)  # what is sent is made of


class SharedSteps:
    """The first rank's side; alone, it shares with nobody."""

    def __init__(self, learner: Learner, ranks: Ranks) -> None:
        self.learner, self.ranks = learner, ranks
        self._last = time.monotonic()

    def _order(self, what: object) -> None:
        if self.ranks.size > 1:
            given_out(self.ranks, [what] * self.ranks.size, KNOWN)
            self._last = time.monotonic()

    def begin(self, how: Begin) -> None:
        """Let the others start as this one does."""
        self._order(how)

    def resize(self, version: int) -> None:
        """Give the network the widths that its plan has for a version, and let the others do so too."""
        if self.learner.resizer is not None:
            self._order(_Resize(version))
        self.learner.resize(version)

    def rest(self) -> None:
        """Let the others know now and then that there is nothing to do."""
        if time.monotonic() - self._last > REST:
            self._order(_Rest())

    def publish(self, rows: int) -> None:
        """Let the others write their shares of the checkpoint after so many rows."""
        self._order(_Publish(rows))

    def end(self) -> None:
        """Let the others end."""
        self._order(_End())

    def steps(self, prepare: Prepare, cuts: Sequence[Array], starts: Sequence[Array | None]) -> Iterator[Outcome]:
        """Take a step per cut, int64 [B] of whatever `prepare` takes, in order; return its outcome for all rows.

        starts: of each cut, where ranks' parts may begin; see `Ranks.part`.
        """
        if self.ranks.size == 1 or not cuts:
            yield from steps(self.learner, prepare, cuts)
            return
        self._order(_Steps(len(cuts)))
        aside = replace(self.ranks, group=self.ranks.ahead)
        slices = [_slices(self.ranks, len(cut), at) for cut, at in zip(cuts, starts, strict=True)]

        def shared(number: int) -> Prepared:
            parts = _parts(prepare, cuts[number], slices[number])
            mine, _ = given_out(aside, [(part, _sizes(slices[number])) for part in parts], KNOWN)
            return cast(Prepared, mine)

        for number, done in enumerate(steps(self.learner, shared, range(len(cuts)))):
            yield _whole(self.ranks, done, _sizes(slices[number]))


def _slices(ranks: Ranks, rows: int, starts: Array | None) -> list[slice]:
    return [replace(ranks, rank=rank).part(rows, starts) for rank in range(ranks.size)]


def _sizes(slices: Sequence[slice]) -> list[int]:
    return [int(part.stop - part.start) for part in slices]


def _parts(prepare: Prepare, cut: Array, slices: Sequence[slice]) -> list[Prepared]:
    """Return each rank's part of a step; one without rows takes the first one, and learns nothing from it."""
    sizes = _sizes(slices)
    parts = [prepare(cut[part] if size else cut[:1]) for part, size in zip(slices, sizes, strict=True)]
    if not parts[0].learn:
        return parts
    own = [one for one, size in zip(parts, sizes, strict=True) if size]
    labels, weight = (torch.cat(of).numpy() for of in zip(*map(_labels_and_weight, own), strict=True))
    keep = torch.cat([one.keep for one in own]).numpy()
    shares = [shares_of(labels, keep, keep[part], part, weight) for part in slices]
    found = [
        replace(one, keep=one.keep & bool(size), shares=of) for one, of, size in zip(parts, shares, sizes, strict=True)
    ]
    return [one if size else unlearned(one) for one, size in zip(found, sizes, strict=True)]


def _labels_and_weight(one: Prepared) -> tuple[Tensor, Tensor]:
    """Return (float32 [B, K] labels, float32 [B] weights) of a part's samples, without their candidates."""
    every = slice(None, None, one.batch.rows_per_sample)
    return one.batch.labels[every], one.batch.weight[every]


def _whole(ranks: Ranks, done: Outcome, counts: Sequence[int]) -> Outcome:
    """Return, on the first rank, the outcome of all ranks' rows; counts: how many each has."""
    own, own_count, scored = done.result.logits, counts[ranks.rank], done.candidates
    tasks, rows = own.shape[1], own[:own_count]
    if scored is not None:
        rows = torch.cat([rows, torch.from_numpy(scored[:own_count].astype(np.float32)).flatten(1)], 1)
    found = to_first(ranks, rows, counts)
    logits, rest = found[:, :tasks], found[:, tasks:]
    candidates = None if scored is None else rest.numpy().astype(np.float16).reshape(len(found), *scored.shape[1:])
    return Outcome(StepResult(logits, done.result.coverage), candidates)


def follow(ranks: Ranks, made: Callable[[Begin], Learner], checkpoints: Checkpoints) -> None:
    """Do what the first rank orders, as one of the others, until it ends. made: the learner to begin with; checkpoints:
    where all ranks publish, a call of a thread of its own.
    """
    learner: Learner | None = None
    with ThreadPoolExecutor(1) as thread:
        writing: Future[None] | None = None
        while not isinstance(order := given_out(ranks, [], KNOWN), _End):
            if isinstance(order, Begin):
                learner = made(order)
            elif isinstance(order, _Steps) and learner is not None:
                _step_with(ranks, learner, order.count)
            elif isinstance(order, _Resize) and learner is not None:
                learner.resize(order.version)
            elif isinstance(order, _Publish) and learner is not None:
                if writing is not None:
                    writing.result()
                tensors = {name: value.clone() for name, value in learner.state()[0].items()}
                writing = thread.submit(checkpoints.publish, order.rows, Checkpoint(tensors, {}))
        if writing is not None:
            writing.result()


def _step_with(ranks: Ranks, learner: Learner, count: int) -> None:
    """Take steps together with the first rank, and send it their logits."""
    aside, sizes = replace(ranks, group=ranks.ahead), deque[list[int]]()

    def received(_: int) -> Prepared:
        prepared, of_step = given_out(aside, [], KNOWN)
        sizes.append(of_step)
        return cast(Prepared, prepared)

    for done in steps(learner, received, range(count)):
        _whole(ranks, done, sizes.popleft())
