"""The one loop of teachers and students: predict the batch, record its logits, learn from it; commit, checkpoint, go
on.

    for block in plan:                       # a block is one commit and one checkpoint
        for step in block:
            logits = learner.learn(batch)    # the logits are those from before the update
            record(logits)                   # only when the rows are met for the first time
        predictions.append(block)            # (writer, sequence) makes a replay a no-op
        checkpoints.publish(block)           # one atomic rename

A run killed anywhere resumes from its last checkpoint and does bit for bit the same again; if the commit was already
there, it is recognised by its sequence number and not written twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.batch.candidates import Candidates
from recdistill.data.store.label_order import late_alone
from recdistill.data.store.sample_store import SampleStore
from recdistill.distill.losses import WHOLE
from recdistill.distributed.ranks import ALONE, Ranks
from recdistill.evaluate.metrics import ne_of_sums
from recdistill.signals.columns import CANDIDATES, STATE
from recdistill.tables.predictions import PredictionLog
from recdistill.train.learner import Learner
from recdistill.train.pretrain import Pretraining
from recdistill.train.pruned_from import PrunedFrom
from recdistill.train.schedule import Plan, Step, kept
from recdistill.train.start_from import StartFrom
from recdistill.train.step import Prepared, part_starts, shares_of, steps, unlearned, with_labels
from recdistill.train.warm_start import WarmStart
from recdistill.typing import Array

__all__ = ["REPORT_EVERY", "Progress", "Totals", "Trainer", "resumed"]

REPORT_EVERY = 50  # steps between two progress reports
# fields of Totals that each rank sums for its own rows
SUMMED = ("rows", "first", "logloss", "positives", "labels", "signals")


@dataclass
class Totals:
    """Running sums over the recorded rows, from the start of the run; seconds count learning only. began: what was
    taken over from another model, see `Taken`.

    Of several ranks each sums up its own rows, the first one also those from before the run was resumed.
    """

    rows: int = 0
    first: int = 0  # of them, learned by now
    steps: int = 0
    learned: int = 0  # rows of all steps, those of replays and epochs too
    seconds: float = 0.0
    logloss: float = 0.0
    positives: float = 0.0
    labels: float = 0.0
    signals: float = 0.0
    began: dict[str, float] = field(default_factory=dict)

    def count(self, labels: Array, logits: torch.Tensor) -> None:
        """Count predicted rows: labels float32 [n] (NaN: unknown), logits [n]
        before the update.
        """
        y = torch.from_numpy(labels)
        known = ~torch.isnan(y)
        y, z = y[known].double(), logits[known].double()
        self.rows += len(labels)
        self.labels += float(len(y))
        self.positives += float(y.sum())
        self.logloss += float(torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="sum"))

    def of_all_ranks(self, ranks: Ranks) -> Totals:
        """Return the whole job's; a call of all ranks together."""
        sums = torch.tensor([float(getattr(self, name)) for name in SUMMED], dtype=torch.float64)
        ranks.sum_in_place([sums])
        rows, first, *others = sums.tolist()
        return replace(self, rows=int(rows), first=int(first), **dict(zip(SUMMED[2:], others, strict=True)))

    def of_rank(self, ranks: Ranks) -> Totals:
        """Return what a rank goes on with from the whole job's."""
        none: dict[str, Any] = dict.fromkeys(SUMMED, 0)
        return self if ranks.first else replace(self, **none)

    def stepped(self, rows: int, clock: float) -> float:
        """Count a step that learned `rows` rows since `clock`, in seconds; return the clock now."""
        now = time.perf_counter()
        self.steps, self.learned = self.steps + int(rows > 0), self.learned + rows
        self.seconds += now - clock
        return now

    def progress(self, plan: Plan, uses_teacher: bool) -> Progress:
        """Return how far a model is in its plan; uses_teacher: whether it learns from a teacher."""
        coverage = self.signals / max(self.first, 1) if uses_teacher else None
        return Progress(
            self.learned,
            plan.learned_rows,
            self.learned / max(self.seconds, 1e-9),
            self.logloss / self.labels if self.labels else math.nan,
            self.normalized_entropy(),
            coverage,
        )

    def normalized_entropy(self) -> float:
        """Return progressive NE: log-loss over the entropy of the base rate; NaN before both classes were seen."""
        return float(ne_of_sums(self.logloss, self.labels, self.positives))


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows: rows learned of all, rows/s, and LogLoss and NE of the predictions so far, NaN without
    outcomes.

    coverage: share of rows with a signal; None for a model without a teacher.
    """

    done: int
    total: int
    rows_per_second: float
    logloss: float
    ne: float
    coverage: float | None


def resumed(learner: Learner, checkpoints: Checkpoints, pruned: PrunedFrom | None = None) -> tuple[Totals, int]:
    """Take up the newest checkpoint, if there is one, else that of the larger model that it goes on as, if it does;
    return the totals so far, the larger one's included, and the block to go on with.
    """
    block = checkpoints.newest()
    if block is not None:
        tensors, state, first = checkpoints.stored(block), checkpoints.state(block), block + 1
    elif pruned is not None:
        (tensors, state), first = pruned.taken(), pruned.block
    else:
        return Totals(), 0
    learner.restore(tensors, state["learner"])
    return Totals(**state["totals"]).of_rank(checkpoints.ranks), first


@dataclass(frozen=True)
class Trainer:
    """One model's run over the store. `model` names it in the predictions table, `run` its configuration's hash.

    candidates: those that it scores too, None for none. only: bool [N], which samples it learns from, None for
    all. pretrain: how it is pre-trained, once, before the first block that begins at or after that share of the log.
    starts: what it takes over from other models, and when. pruned: the larger model that it goes on as, and from when.
    ranks: the processes that share every step's rows, each with a trainer like this one; the first of them records the
    logits of all.
    """

    model: str
    run: str
    learner: Learner
    store: SampleStore
    builder: BatchBuilder
    plan: Plan
    predictions: PredictionLog
    checkpoints: Checkpoints
    metadata: dict[str, str]
    candidates: Candidates | None = None
    only: Array | None = None
    pretrain: Pretraining | None = None
    ranks: Ranks = ALONE
    starts: tuple[StartFrom | WarmStart, ...] = ()
    pruned: PrunedFrom | None = None

    def run_to_end(self) -> Iterator[Progress]:
        """Resume after the last checkpoint and run every remaining block, yielding progress now and then."""
        totals, first = resumed(self.learner, self.checkpoints, self.pruned)
        for block in range(first, self.plan.blocks):
            if self.pretrain and block == self.plan.block_at(self.pretrain.config.at):
                moment = int(self.store.time[self.plan.span(block)[0]])
                self.pretrain.of(self.learner, self.store, moment, self.builder.length, self.plan.seed)
            self.learner.resize(block)
            for start in self.starts:
                if taken := start.before(block, self.learner):
                    totals.began = asdict(taken)
            yield from self._block(block, totals)

    def totals(self) -> Totals:
        """Return the totals of the last checkpoint."""
        block = self.checkpoints.newest()
        return Totals() if block is None else Totals(**self.checkpoints.state(block)["totals"])

    def _block(self, block: int, totals: Totals) -> Iterator[Progress]:
        low, high = self.plan.span(block)
        recording = block < self.plan.blocks_per_pass
        logits, channels = np.zeros((high - low, len(self.store.tasks)), np.float32), self._channels(high - low)
        at, clock = 0, time.perf_counter()
        planned = list(self.plan.steps(block))
        self.learner.at_share(block / self.plan.blocks)
        for number, (step, done) in enumerate(
            zip(planned, steps(self.learner, self._prepare, planned), strict=True), 1
        ):
            mine = self.ranks.part(len(step.rows), part_starts(self.learner, self.builder, step.rows))
            if step.record:
                part, own = slice(at + mine.start, at + mine.stop), slice(mine.stop - mine.start)
                logits[part], at = done.result.logits.numpy()[own], at + len(step.rows)
                if done.candidates is not None:
                    channels[CANDIDATES][part] = done.candidates[own]
                if done.result.state is not None:
                    channels[STATE][part] = done.result.state[own]
                totals.count(
                    self.learner.outcomes(self.store.labels[step.rows[mine], 0]),
                    done.result.logits[own, 0] - self.learner.log_odds_offset,
                )
            if step.first:
                totals.signals += done.result.coverage * (mine.stop - mine.start)
                totals.first += int((step.late[mine] < 0).sum()) if step.late is not None else mine.stop - mine.start
            clock = totals.stepped(len(step.rows) if step.learn else 0, clock)
            if number % REPORT_EVERY == 0:
                self.learner.at_share((block + number / len(planned)) / self.plan.blocks)
                yield self._progress(totals)
        if recording:
            channels = {name: self.ranks.merged(values) for name, values in channels.items()}
            self._record(block, low, high, self.ranks.merged(logits), channels)
        self._publish(block, totals)
        yield self._progress(totals)

    def _prepare(self, step: Step) -> Prepared:
        """Return this rank's part of a step. A rank without a part takes the first row and learns nothing from it."""
        starts = part_starts(self.learner, self.builder, step.rows)
        part, given = self.ranks.part_or_first(len(step.rows), starts)
        rows = step.rows[part]
        asked = self.builder.candidates(rows, self.candidates) if self.candidates and step.record else None
        if not step.learn:
            return Prepared(self.builder.unlabelled(rows), torch.ones(len(rows), dtype=torch.bool), asked, learn=False)
        labels, keep = self._taught(step)
        mine = keep[part] & given
        shares = shares_of(labels, keep, mine, part, self.store.weight[step.rows]) if self.ranks.size > 1 else WHOLE
        again = None if step.late is None else step.late[part] >= 0
        prepared = Prepared(self.builder.build(rows), torch.from_numpy(mine), asked, shares=shares)
        if self.store.label_order is not None:
            prepared = with_labels(prepared, labels[part], again, step.late_share)
        return prepared if given else unlearned(prepared)

    def _taught(self, step: Step) -> tuple[Array, Array]:
        """Return (float32 [n, K] labels as they are known at the step, bool [n]: which of its rows are learned)."""
        rows = step.rows
        labels, known = self.store.labels_as_of(rows, step.now)
        keep = kept(self.store.sample_id[rows], labels[:, 0], self.learner.sampling, self.plan.seed) & known
        return late_alone(labels, step.late), keep if self.only is None else keep & self.only[rows]

    def _progress(self, totals: Totals) -> Progress:
        return totals.of_all_ranks(self.ranks).progress(self.plan, self.builder.signals is not None)

    def _channels(self, rows: int) -> dict[str, Array]:
        """Return room for what this model records besides logits."""
        count = self.candidates.count if self.candidates else 0
        room = {CANDIDATES: np.zeros((rows, count, len(self.store.tasks)), np.float16)} if count else {}
        writes = self.learner.hidden_state_codec is not None
        return room | ({STATE: np.zeros((rows, self.predictions.channels[STATE]), np.uint8)} if writes else {})

    def _record(self, block: int, low: int, high: int, logits: Array, channels: dict[str, Array]) -> None:
        if not self.ranks.first:
            return
        rows = self.predictions.rows_of(self.store.sample_id[low:high], self.store.time[low:high], logits, channels)
        self.predictions.append(
            rows,
            model=self.model,
            version=block,
            kind="prequential",
            writer=f"{self.model}@{self.run}",
            sequence=block,
            metadata=self.metadata,
        )

    def _publish(self, block: int, totals: Totals) -> None:
        tensors, state = self.learner.state()
        self.checkpoints.publish(
            block,
            Checkpoint(
                tensors,
                {
                    "block": block,
                    "run": self.run,
                    "learner": state,
                    "totals": vars(totals.of_all_ranks(self.ranks)),
                    "metadata": self.metadata,
                },
            ),
        )
