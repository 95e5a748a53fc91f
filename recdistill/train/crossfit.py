"""Signals of the batch phase from teachers that never learned from the sample: K folds, each scored by the one without
it.

    fold 0   [learn][learn][score]        a teacher per fold, all passes over the other folds, then the fold scored
    fold 1   [learn][score][learn]        with what it knows in the end: mature, and label-free
    fold 2   [score][learn][learn]

Only the log's first `crossfit.share` takes part: what comes later is scored by nobody who could know it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.sampling import kept
from recdistill.data.store.sample_store import SampleStore
from recdistill.distill.losses import WHOLE
from recdistill.distributed.ranks import Ranks
from recdistill.runs.names import CROSSFIT
from recdistill.tables.predictions import PredictionLog
from recdistill.train.learner import Learner
from recdistill.train.schedule import Plan, Step
from recdistill.train.step import Prepared, shares_of, steps, unlearned, with_labels
from recdistill.train.trainer import REPORT_EVERY, Progress, Totals, resumed
from recdistill.typing import Array

__all__ = ["FoldTrainer"]


@dataclass(frozen=True)
class FoldTrainer:
    """One fold's teacher over the first `plan.rows` samples; see the module. writer: its name in the
    predictions table.
    """

    fold: int
    folds: Array
    learner: Learner
    store: SampleStore
    builder: BatchBuilder
    plan: Plan
    predictions: PredictionLog
    checkpoints: Checkpoints
    writer: str
    metadata: dict[str, str]

    @property
    def ranks(self) -> Ranks:
        """Return the processes that share every step's rows, each with a trainer like this one."""
        return self.checkpoints.ranks

    def run_to_end(self) -> Iterator[Progress]:
        """Learn every block that is not done yet, then score the fold; a checkpoint per block."""
        totals, first = resumed(self.learner, self.checkpoints)
        for block in range(first, self.plan.blocks):
            yield from self._learn(block, totals)
            if block + 1 == self.plan.blocks:
                self._score()  # before the checkpoint that says that all is done
            tensors, state = self.learner.state()
            whole = totals.of_all_ranks(self.ranks)
            self.checkpoints.publish(block, Checkpoint(tensors, {"learner": state, "totals": vars(whole)}))
            yield whole.progress(self.plan, uses_teacher=False)

    def _learn(self, block: int, totals: Totals) -> Iterator[Progress]:
        """Learn a block's rows but for the fold's, whose predictions in passing are counted."""
        planned, clock = list(self.plan.steps(block)), time.perf_counter()
        self.learner.at_share(block / self.plan.blocks)
        for number, (step, done) in enumerate(
            zip(planned, steps(self.learner, self._prepare, planned), strict=True), 1
        ):
            rows = step.rows[self.ranks.part(len(step.rows))]
            mine = self.folds[rows] == self.fold
            logits = done.result.logits[: len(rows)][torch.from_numpy(mine), 0] - self.learner.log_odds_offset
            totals.count(self.learner.outcomes(self.store.labels[rows[mine], 0]), logits)
            clock = totals.stepped(len(step.rows), clock)
            if number % REPORT_EVERY == 0:
                self.learner.at_share((block + number / len(planned)) / self.plan.blocks)
                yield totals.of_all_ranks(self.ranks).progress(self.plan, uses_teacher=False)

    def _prepare(self, step: Step) -> Prepared:
        rows, end = step.rows, int(self.store.time[self.plan.rows - 1])  # no label counts that was known later
        labels, known = self.store.labels_as_of(rows, end)
        keep = kept(self.store.sample_id[rows], labels[:, 0], self.learner.sampling, self.plan.seed) & known
        keep &= self.folds[rows] != self.fold
        part, given = self.ranks.part_or_first(len(rows))
        mine = keep[part] & given
        shares = shares_of(labels, keep, mine, part, self.store.weight[rows]) if self.ranks.size > 1 else WHOLE
        prepared = Prepared(self.builder.build(rows[part]), torch.from_numpy(mine), shares=shares)
        if self.store.label_order is not None:
            prepared = with_labels(prepared, labels[part])
        return prepared if given else unlearned(prepared)

    def _score(self) -> None:
        """Record the teacher's logits of its fold, a commit per block."""
        mine = np.flatnonzero(self.folds == self.fold)
        for sequence, low in enumerate(range(0, len(mine), self.plan.block_rows)):
            rows = mine[low : low + self.plan.block_rows]
            cuts = [rows[at : at + self.plan.batch] for at in range(0, len(rows), self.plan.batch)]
            logits = np.zeros((len(rows), len(self.store.tasks)), np.float32)
            at = 0
            for cut, done in zip(cuts, steps(self.learner, self._asked, cuts), strict=True):
                part = self.ranks.part(len(cut))
                logits[at : at + len(cut)][part] = done.result.logits[: part.stop - part.start].numpy()
                at += len(cut)
            logits = self.ranks.merged(logits)
            if self.ranks.first:
                self._record(sequence, rows, logits)

    def _asked(self, cut: Array) -> Prepared:
        """Return this rank's part of rows to be predicted."""
        part, _ = self.ranks.part_or_first(len(cut))
        batch = self.builder.build(cut[part])
        return Prepared(batch, torch.ones(len(batch), dtype=torch.bool), learn=False)

    def _record(self, sequence: int, rows: Array, logits: Array) -> None:
        predicted = self.predictions.rows_of(self.store.sample_id[rows], self.store.time[rows], logits)
        self.predictions.append(
            predicted,
            model=CROSSFIT,
            version=self.fold,
            kind="crossfit",
            writer=self.writer,
            sequence=sequence,
            metadata=self.metadata,
            new_samples=True,
        )
