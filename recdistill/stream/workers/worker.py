"""One model, following the tables: predict, record, learn; checkpoint; go on, for ever or to the end of the source.

    labels with their samples    each sample is predicted and learned in one step, in the order of the events
    labels that come later       a sample is predicted when it arrives, and learned when its label is decided

Steps are cut by the number of samples alone, never by the clock, so a model that is killed and starts again from its
checkpoint does the same again, bit for bit, and its weights are those of a run that was never killed.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.config.stream import StreamConfig
from recdistill.data.store.live_store import LiveStore
from recdistill.runs.jobs import Job
from recdistill.signals.columns import CANDIDATES
from recdistill.stream.event_log import Journal
from recdistill.stream.progress import Health, ModelProgress
from recdistill.stream.workers.cutter import Cutter
from recdistill.stream.workers.delayed_labels import DelayedLabels
from recdistill.stream.workers.prediction_writer import PredictionWriter
from recdistill.stream.workers.shared_steps import Begin, SharedSteps
from recdistill.stream.workers.signal_joiner import SignalJoiner
from recdistill.stream.workers.snapshot import REVISION, Part, check_revision, gather, split
from recdistill.stream.workers.table_follower import TableFollower
from recdistill.stream.workers.tally import Tally
from recdistill.tables.delta.commits import check_follows
from recdistill.testing.killpoints import reach
from recdistill.train.step import Prepared, part_starts, with_labels
from recdistill.typing import Array

__all__ = ["RestartFromCheckpoint", "Connections", "Worker"]

AHEAD = 20_000  # samples read beyond the first that waits for its signal
GROUP = 4096  # samples learned between two looks at the tables
MAX_SIGNAL_COMMITS = 4  # read between two looks
IDLE = 0.02  # seconds between two looks when there was nothing


class RestartFromCheckpoint(Exception):
    """The model must start again from an earlier state: it learned from versions that were revoked since,
    or lost its files.
    """


@dataclass(frozen=True)
class Connections:
    """How a model gets its rows, and where it leaves what it makes.

    joiner: None for a model without a teacher. delayed: None where labels come with their samples. published: the same
    checkpoints as `checkpoints`, as all ranks write them together.
    """

    tables: TableFollower
    joiner: SignalJoiner | None
    delayed: DelayedLabels | None
    writer: PredictionWriter
    checkpoints: Checkpoints
    published: Checkpoints


class Worker:
    """A model's learner, the samples that wait for it, and its connections."""

    def __init__(
        self,
        job: Job,
        config: StreamConfig,
        shared: SharedSteps,
        store: LiveStore,
        cutter: Cutter,
        connections: Connections,
        journal: Journal,
    ) -> None:
        self.job, self.config, self.shared, self.store, self.cutter = job, config, shared, store, cutter
        self.learner = shared.learner
        self.tables, self.joiner, self.delayed = connections.tables, connections.joiner, connections.delayed
        self.writer, self.checkpoints, self.journal = connections.writer, connections.checkpoints, journal
        self.published = connections.published
        self.tally = Tally(self.learner.log_odds_offset)
        self.predicted = 0  # waiting samples that are predicted and not dropped yet
        self._saved = 0  # checkpoints' worth of rows published

    def run(self) -> None:
        """Follow until the source has ended; raises RestartFromCheckpoint when a teacher version that it learned
        from is revoked.
        """
        while True:
            moved = self._look()
            ready, ended = self._ready()
            batch = self.job.config.batch
            if ready >= batch or (ended and ready):
                self._learn(min(ready if ended else ready - ready % batch, self._room()))
            elif ended:
                return self._finish()
            elif not moved:
                time.sleep(IDLE)
            self.shared.rest()
            if self.writer.rows // self.config.checkpoint_rows > self._saved:
                self._checkpoint()
                self.shared.resize(self.writer.next_version)
            elif self.writer.due:
                self._flush()

    # ---- reading

    def _look(self) -> bool:
        """Read what is next in the tables, if there is need of more; return whether there was anything."""
        moved = False
        while self._wants_more() and (rows := self.tables.read()) is not None:
            moved = True
            self._arrived(rows)
        if self.joiner:
            if self.joiner.update() and (bad := self.joiner.verdicts.revoked(self.tally.lineage())):
                raise RestartFromCheckpoint(", ".join(bad))
            for _ in range(MAX_SIGNAL_COMMITS):
                if not self.joiner.read(self.store):
                    break
                moved = True
            self.joiner.decide(self.store)
        return moved

    def _wants_more(self) -> bool:
        """Return whether to read the next commit of events.

        What arrives later is predicted by weights that have learned what was decided before, not by how quick they
        were.
        """
        if self.delayed:
            return len(self.delayed.queue["position"]) < self.job.config.batch
        return len(self.store) < GROUP + (AHEAD if self.joiner else 0)

    def _arrived(self, rows: int) -> None:
        if self.joiner:
            self.joiner.arrived(self.store, rows)
        if self.delayed:
            self._predict()
            self.delayed.arrived(self.store, rows)
            self.delayed.decide(self.store, self.tables.take_outcomes())

    def _ready(self) -> tuple[int, bool]:
        """Return (how many samples can be learned now, in order; whether nothing will come after them)."""
        decided = self.joiner.ready(self.store, self.tables.look_ahead()) if self.joiner else len(self.store)
        ended = self.tables.ended() and decided == len(self.store)
        if not self.delayed:
            return decided, ended
        waiting = self.delayed.queue["position"] - self.store.rows.first >= decided
        ready = int(np.argmax(waiting)) if waiting.any() else len(waiting)
        return ready, ended and ready == len(waiting)

    # ---- predicting and learning

    def _room(self) -> int:
        """Return how many rows, in whole batches, may be learned before the next checkpoint is due or the tables are
        to be looked at.
        """
        batch, size = self.job.config.batch, self.config.checkpoint_rows
        left = (self._saved + 1) * size - self.writer.rows
        return max(batch, min(-(-left // batch), GROUP // batch) * batch)

    def _learn(self, rows: int) -> None:
        start = time.perf_counter()
        if self.delayed:
            self._learn_later(self.delayed, rows)
        else:
            self._learn_in_order(rows)
        self.tally.sums["seconds"] += time.perf_counter() - start

    def _learn_in_order(self, rows: int) -> None:
        """Predict, record and learn the oldest `rows` samples, then drop them."""
        cuts = self.cutter.cuts(np.arange(rows))
        starts = [part_starts(self.learner, self.cutter.builder, cut) for cut in cuts]
        logits, channels = np.empty((rows, self.store.labels.shape[1]), np.float32), self.cutter.channels(rows)
        for cut, done in zip(cuts, self.shared.steps(self.cutter.prepare, cuts, starts), strict=True):
            logits[cut] = done.result.logits.numpy()
            if done.candidates is not None:
                channels[CANDIDATES][cut] = done.candidates
            reach("model.predicted")
        waiting = self.store.rows
        self.writer.record(waiting["sample_id"][:rows], waiting["time"][:rows], logits, channels)
        self.tally.add_predictions(self.learner.outcomes(waiting["labels"][:rows, 0]), logits[:, 0])
        self._count_learned(np.arange(rows))
        self._drop(rows)

    def _predict(self) -> None:
        """Predict and record the samples that just arrived."""
        waiting = self.store.rows
        cuts = self.cutter.cuts(np.arange(self.predicted, len(self.store)))
        for cut, done in zip(cuts, self.shared.steps(self.cutter.unlabelled, cuts, [None] * len(cuts)), strict=True):
            channels, logits = self.cutter.channels(len(cut)), done.result.logits.numpy()
            if done.candidates is not None:
                channels[CANDIDATES][:] = done.candidates
            waiting["logit"][cut] = logits[:, 0]
            reach("model.predicted")
            self.writer.record(waiting["sample_id"][cut], waiting["time"][cut], logits, channels)
        self.predicted = len(self.store)

    def _learn_later(self, delayed: DelayedLabels, rows: int) -> None:
        """Learn the next `rows` decisions, then drop the samples that nothing more can happen to."""
        waiting, taken = self.store.rows, delayed.take(rows)
        share = delayed.late_share if delayed.config.late == "weight" else None
        position = taken["position"] - waiting.first

        def prepare(cut: Array) -> Prepared:
            batch, keep = self.cutter.labelled(position[cut])
            return with_labels(Prepared(batch, keep), taken["labels"][cut], taken["again"][cut], share)

        cuts = self.cutter.cuts(np.arange(rows))
        starts = [part_starts(self.learner, self.cutter.builder, position[cut]) for cut in cuts]
        for cut, _ in zip(cuts, self.shared.steps(prepare, cuts, starts), strict=True):
            at, again, labels = position[cut], taken["again"][cut], taken["labels"][cut]
            self.tally.add_predictions(labels[~again, 0], waiting["logit"][at][~again])
            self.tally.correct(waiting["logit"][at][again & (labels[:, 0] == 1)])
            self._count_learned(at[~again])
        self._drop(delayed.spent(self.store))

    def _count_learned(self, at: Array) -> None:
        """Count the samples at these positions as learned."""
        waiting = self.store.rows
        signals = self.joiner.count(self.store, at) if self.joiner else Counter[tuple[str, str]]()
        self.tally.add_learned(waiting["arrived"][at], waiting["published"][at], signals)

    def _drop(self, rows: int) -> None:
        if self.joiner:
            self.joiner.forget(self.store, rows)
        self.store.drop(rows)
        self.predicted = max(self.predicted - rows, 0)

    # ---- what it makes

    def _flush(self, end: bool = False) -> None:
        missing = Counter(self.joiner.missing if self.joiner else {})
        missing += Counter(self.delayed.dropped if self.delayed else {})
        self.writer.flush(
            ModelProgress(
                events=self.tables.versions["events"],
                watermark=self.store.newest,
                sums=self.tally.as_sums(),
                missing=dict(missing),
                pending=len(self.store),
                lag=self.tally.lag,
                end=end,
                health=Health.now(time.time()),
            )
        )
        self.tally.lag = 0.0

    def _finish(self) -> None:
        """Record and keep what there is, and report that this is all."""
        self._flush(end=True)
        self._checkpoint()
        self.writer.settle()
        self.shared.end()
        self.journal.write("end", rows=self.writer.rows, learned=int(self.tally.sums["learned"]))

    def _parts(self) -> dict[str, Part]:
        """Return what keeps a state of its own besides the learner, by its name in a checkpoint."""
        parts: dict[str, Part | None] = {"store": self.store, "joiner": self.joiner, "delayed": self.delayed}
        return {name: part for name, part in parts.items() if part is not None}

    def _checkpoint(self) -> None:
        """Publish everything that the next step depends on; what was predicted before is in the table first."""
        self._flush()
        self.shared.publish(self.writer.rows)  # all ranks give their states together
        tensors, learner = self.learner.state()
        tensors = {name: value.clone() for name, value in tensors.items()}  # written while the model goes on
        self.tables.settle()
        arrays, parts = gather(self._parts())
        versions = dict(self.tables.versions)
        if self.joiner:
            versions |= {"predictions": self.joiner.version, "verdicts": self.joiner.verdicts.version}
        self._saved = self.writer.rows // self.config.checkpoint_rows
        state = {
            "revision": REVISION,
            "run": self.job.run,
            "rows": self.writer.rows,
            "versions": versions,
            "learner": learner,
            "parts": parts,
            "predicted": self.predicted,
            **self.tally.state(),
        }
        self.writer.publish(self.published, Checkpoint(tensors | arrays, state))

    # ---- starting again

    def resume(self) -> None:
        """Go on from the newest clean checkpoint, remove those that learned from revoked versions; else start
        at the hand-over. UserError for checkpoints of another revision.
        """
        if self.joiner:
            self.joiner.update()
            self._remove_revoked(self.joiner)
        block = self.checkpoints.newest()
        if block is not None:
            self._restore(block)
        check_follows(self.tables.events.path, self.tables.versions["events"])
        if self.joiner:
            check_follows(self.joiner.log.path, self.joiner.version)
        rates = None if self.joiner is None else self.learner.teacher
        self.shared.begin(Begin(block, self.store.actions, rates))
        if block is None:
            return self._begin()
        self.writer.start(block)
        self.shared.resize(self.writer.next_version)
        self._saved = self.writer.rows // self.config.checkpoint_rows
        again = self.writer.recorded - block
        self.journal.write("resume", rows=block, events=self.tables.versions["events"], again=again)

    def _remove_revoked(self, joiner: SignalJoiner) -> None:
        for block in reversed(self.checkpoints.blocks()):
            state = self.checkpoints.whole_state(block)
            if not state:
                continue
            check_revision(self.checkpoints.folder, state)
            bad = joiner.verdicts.revoked(state["learned_from"])
            if bad and self.checkpoints.whole(block):  # which reads all of it: only where it matters
                self.journal.write("rollback", checkpoint=block, revoked=bad)
                self.checkpoints.discard(block)

    def _begin(self) -> None:
        self.store.clear()
        self.writer.start(0)
        self.shared.resize(self.writer.next_version)
        self.journal.write("start", events=self.tables.versions["events"], again=self.writer.recorded)

    def _restore(self, block: int) -> None:
        """Go on from a checkpoint; without the files it refers to, remove all of them and raise
        RestartFromCheckpoint.
        """
        state = self.checkpoints.state(block)
        check_revision(self.checkpoints.folder, state)
        arrays, learner = split(self.checkpoints.stored(block), self._parts())
        if not self.store.restore(arrays["store"], state["parts"]["store"]):
            check_follows(self.tables.events.path, self.tables.versions["events"])  # before anything is removed
            for block in self.checkpoints.blocks():
                self.checkpoints.discard(block)
            raise RestartFromCheckpoint("its live store is gone")
        if self.joiner:
            self.joiner.restore(arrays["joiner"], state["parts"]["joiner"])
        if self.delayed:
            self.delayed.restore(arrays["delayed"], state["parts"]["delayed"])
        self.learner.restore(learner, state["learner"])
        self.tables.resume(state["versions"])
        self.tally.restore(state)
        self.predicted = state["predicted"]
