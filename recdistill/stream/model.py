"""One model, following the tables: predict, record, learn; checkpoint; go on, for ever or to the end of the source.

    labels with their samples    each sample is predicted and learned in one step, in the order of the events
    labels that come later       a sample is predicted when it arrives, and learned when its label is decided

Steps are cut by the number of samples alone, never by the clock, so a model that is killed and starts again from its
checkpoint does the same again, bit for bit, and its weights are those of a run that was never killed.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.config import StreamConfig
from recdistill.data import Batch, BatchBuilder, prefetch
from recdistill.data.builder import Beside
from recdistill.data.candidates import Candidates
from recdistill.data.live import LiveStore
from recdistill.data.sampling import kept
from recdistill.killpoints import reach
from recdistill.learn.checkpoint import Checkpoint, Checkpoints
from recdistill.learn.jobs import Job
from recdistill.learn.learner import Learner
from recdistill.learn.signals import CANDIDATES
from recdistill.stream.about import Health, ModelAbout, Sums
from recdistill.stream.delayed import Decisions
from recdistill.stream.inbox import Inbox
from recdistill.stream.joiner import Joiner
from recdistill.stream.journal import Journal
from recdistill.stream.recorder import Recorder
from recdistill.tables.follow import check_follows

__all__ = ["Follower", "SetBack"]

Array = np.ndarray[Any, np.dtype[Any]]
NO_SHIFT = np.zeros(1, np.float32)  # samples and candidates are of one teacher
AHEAD = 20_000  # samples read beyond the first that waits for its signal
GROUP = 4096  # samples learned between two looks at the tables
TOGETHER = 4  # commits of signals read between two looks
IDLE = 0.02  # seconds between two looks when there was nothing


class SetBack(Exception):
    """The model must start again from an earlier state: it learned from versions that were revoked since,
    or lost its files.
    """


@dataclass
class Follower:
    """A model's state and its ways in and out; `joiner` is None for one that hears no teacher, `decisions` where labels
    come along.

    asked: the candidates that a teacher is asked about; hears: those that a student hears of.
    """

    job: Job
    stream: StreamConfig
    learner: Learner
    store: LiveStore
    inbox: Inbox
    joiner: Joiner | None
    decisions: Decisions | None
    recorder: Recorder
    checkpoints: Checkpoints
    journal: Journal
    asked: Candidates | None = None
    hears: Candidates | None = None
    heard: Counter[tuple[str, str]] = field(default_factory=Counter)
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    said: int = 0  # waiting samples that are predicted and not dropped yet
    lag: float = 0.0
    _saved: int = 0  # checkpoints' worth of rows published

    def __post_init__(self) -> None:
        self.builder = BatchBuilder(self.store, self.job.config.history)

    def run(self) -> None:
        """Follow until the source has ended; raises SetBack when a teacher version that was heard is revoked."""
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
            if self.recorder.rows // self.stream.checkpoint_rows > self._saved:
                self._checkpoint()
            elif self.recorder.due:
                self._flush()

    def _look(self) -> bool:
        """Read what is next in the tables, if there is need of more; return whether there was anything."""
        moved = False
        while self._wants_more() and (rows := self.inbox.read()) is not None:
            moved = True
            self._arrived(rows)
        if self.joiner:
            if self.joiner.update() and (bad := self.joiner.verdicts.revoked(self._lineage())):
                raise SetBack(", ".join(bad))
            for _ in range(TOGETHER):
                if not self.joiner.read(self.store):
                    break
                moved = True
            self.joiner.judge(self.store)
        return moved

    def _wants_more(self) -> bool:
        """Return whether to read the next commit of events.

        What arrives later is predicted by weights that have learned what was decided before, not by how quick they
        were.
        """
        if self.decisions:
            return len(self.decisions.queue["position"]) < self.job.config.batch
        return len(self.store) < GROUP + (AHEAD if self.joiner else 0)

    def _arrived(self, rows: int) -> None:
        if self.joiner:
            self.joiner.arrived(self.store, rows)
        if self.decisions:
            self._predict()
            self.decisions.arrived(self.store, rows)
            self.decisions.decide(self.store, self.inbox.take())

    def _ready(self) -> tuple[int, bool]:
        """Return (how many samples can be learned now, in order; whether nothing will come after them)."""
        decided = self.joiner.ready(self.store, self.inbox.look_ahead()) if self.joiner else len(self.store)
        ended = self.inbox.ended() and decided == len(self.store)
        if not self.decisions:
            return decided, ended
        waiting = self.decisions.queue["position"] - self.store.window.first >= decided
        ready = int(np.argmax(waiting)) if waiting.any() else len(waiting)
        return ready, ended and ready == len(waiting)

    def _room(self) -> int:
        """Return how many rows, in whole batches, may be learned before the next checkpoint is due or
        others are to be looked at.
        """
        batch, size = self.job.config.batch, self.stream.checkpoint_rows
        left = (self._saved + 1) * size - self.recorder.rows
        return max(batch, min(-(-left // batch), GROUP // batch) * batch)

    def _learn(self, rows: int) -> None:
        start = time.perf_counter()
        (self._learn_later if self.decisions else self._learn_in_order)(rows)
        self.sums["seconds"] += time.perf_counter() - start

    def _cuts(self, rows: Array) -> list[Array]:
        return [rows[at : at + self.job.config.batch] for at in range(0, len(rows), self.job.config.batch)]

    def _learn_in_order(self, rows: int) -> None:
        """Predict, record and learn the oldest `rows` samples, then drop them."""
        cuts = self._cuts(np.arange(rows))
        said, channels = np.empty((rows, self.store.labels.shape[1]), np.float32), self._channels(rows)
        for cut, (batch, keep, asked) in zip(cuts, prefetch(self._prepare, cuts), strict=True):
            self._answer(asked, channels, cut)
            said[cut] = self.learner.learn(batch, keep).logits.numpy()
            reach("model.predicted")
        self.recorder.say(self.store.window["sample_id"][:rows], self.store.window["time"][:rows], said, channels)
        self._count(self.store.window["labels"][:rows, 0], said[:, 0], 1)
        self._count_learned(np.arange(rows))
        self._drop(rows)

    def _channels(self, rows: int) -> dict[str, Array]:
        """Return room for what is said of the candidates of `rows` samples, none for a model that is not asked."""
        shape = (rows, self.asked.count, self.store.labels.shape[1]) if self.asked else ()
        return {CANDIDATES: np.empty(shape, np.float16)} if self.asked else {}

    def _answer(self, asked: Batch | None, channels: dict[str, Array], at: Array) -> None:
        """Say what is thought of the candidates of the samples at positions `at`."""
        if asked is not None:
            channels[CANDIDATES][at] = self.learner.answer(asked, len(at))

    def _prepare(self, cut: Array) -> tuple[Batch, Tensor, Batch | None]:
        """Return the batch of waiting samples, which of it is learned, and the candidates that are asked about."""
        return *self._batch(cut), self._ask(cut)

    def _batch(self, cut: Array) -> tuple[Batch, Tensor]:
        self.builder.signals = self.store.window["signals"] if self.joiner else None
        self.builder.beside = Beside(self.hears, self.store.window["beside"], NO_SHIFT) if self.hears else None
        keep = kept(
            self.store.window["sample_id"][cut],
            self.store.window["labels"][cut, 0],
            self.learner.sampling,
            self.job.seed,
        )
        return self.builder.build(cut), torch.from_numpy(keep)

    def _ask(self, cut: Array) -> Batch | None:
        return self.builder.candidates(cut, self.asked) if self.asked else None

    def _predict(self) -> None:
        """Predict and record the samples that just arrived."""
        self.builder.signals = self.builder.beside = None
        for cut in self._cuts(np.arange(self.said, len(self.store))):
            channels = self._channels(len(cut))
            self._answer(self._ask(cut), channels, np.arange(len(cut)))
            logits = self.learner.predict(self.builder.build(cut)).numpy()
            self.store.window["said"][cut] = logits[:, 0]
            reach("model.predicted")
            self.recorder.say(self.store.window["sample_id"][cut], self.store.window["time"][cut], logits, channels)
        self.said = len(self.store)

    def _learn_later(self, rows: int) -> None:
        """Learn the next `rows` decisions, then drop the samples that nothing more can happen to."""
        decisions, window = self.decisions, self.store.window
        if decisions is None:
            return
        taken = decisions.take(rows)
        for cut in self._cuts(np.arange(rows)):
            at, again = taken["position"][cut] - window.first, taken["again"][cut]
            batch, keep = self._batch(at)
            labels = taken["labels"][cut]
            batch.labels[:: batch.each] = torch.from_numpy(labels)
            batch.signals[torch.from_numpy(again).repeat_interleave(batch.each)] = (
                math.nan
            )  # heard when the sample was learned first
            if self.stream.labels.late == "weight":
                self.learner.learn(batch, keep, late=torch.from_numpy(decisions.late_share).float())
            else:
                self.learner.learn(batch, keep, undo=torch.from_numpy(again) if again.any() else None)
            self._count(labels[~again, 0], window["said"][at][~again], 1)
            self._correct(window["said"][at][again & (labels[:, 0] == 1)])
            self._count_learned(at[~again])
        self._drop(decisions.spent(self.store))

    def _drop(self, rows: int) -> None:
        if self.joiner:
            self.joiner.forget(self.store, rows)
        self.store.drop(rows)
        self.said = max(self.said - rows, 0)

    def _count(self, labels: Array, logits: Array, sign: int) -> None:
        """Add what was said, and what then was known, to the running sums; with sign -1 take it away."""
        known = ~np.isnan(labels)
        y, z = labels[known].astype(np.float64), logits[known].astype(np.float64) - self.learner.shift
        self.sums["labels"] += sign * len(y)
        self.sums["positives"] += sign * float(y.sum())
        self.sums["predicted"] += sign * float((1 / (1 + np.exp(-z))).sum())
        self.sums["logloss"] += sign * float((np.logaddexp(0, z) - y * z).sum())

    def _correct(self, logits: Array) -> None:
        """Count samples that were negatives as positives."""
        self._count(np.zeros(len(logits)), logits, -1)
        self._count(np.ones(len(logits)), logits, 1)

    def _count_learned(self, at: Array) -> None:
        """Count the samples at these positions as learned: how long they waited, and whom they heard."""
        now, window = time.time(), self.store.window
        self.sums["learned"] += len(at)
        self.sums["waiting"] += float((now - window["arrived"][at]).sum())
        published = window["published"][at]
        if published.any():
            self.lag = max(self.lag, now - float(published[published > 0].min()))
        if self.joiner:
            heard = self.joiner.count(self.store, at)
            self.sums["signals"] += sum(heard.values())
            self.heard.update(heard)

    def _flush(self, end: bool = False) -> None:
        missing = Counter(self.joiner.missing if self.joiner else {}) + Counter(
            self.decisions.dropped if self.decisions else {}
        )
        sums = Sums(**{each.name: float(self.sums[each.name]) for each in fields(Sums)})
        self.recorder.flush(
            ModelAbout(
                events=self.inbox.versions["events"],
                watermark=self.store.newest,
                sums=sums,
                missing=dict(missing),
                pending=len(self.store),
                lag=self.lag,
                end=end,
                health=Health.now(time.time()),
            )
        )
        self.lag = 0.0

    def _finish(self) -> None:
        """Record and keep what there is, and say that this is all."""
        self._flush(end=True)
        self._checkpoint()
        self.recorder.settle()
        self.journal.tell("end", rows=self.recorder.rows, learned=int(self.sums["learned"]))

    def _lineage(self) -> dict[str, dict[str, int]]:
        told: dict[str, dict[str, int]] = {}
        for (teacher, version), rows in self.heard.items():
            told.setdefault(teacher, {})[version] = rows
        return told

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield what keeps a state of its own beside the learner, by the name that a checkpoint gives it."""
        yield "store", self.store
        if self.joiner:
            yield "joiner", self.joiner
        if self.decisions:
            yield "decisions", self.decisions

    def _checkpoint(self) -> None:
        """Publish everything that the next step depends on; what was said before is in the table first."""
        self._flush()
        tensors, learner = self.learner.state()
        tensors = {name: value.clone() for name, value in tensors.items()}  # written while the model goes on
        parts: dict[str, Any] = {}
        self.inbox.settle()
        for name, part in self._parts():
            arrays, parts[name] = part.state()
            tensors |= {f"{name}/{key}": torch.from_numpy(np.array(values)) for key, values in arrays.items()}
        versions = dict(self.inbox.versions)
        if self.joiner:
            versions |= {"predictions": self.joiner.version, "verdicts": self.joiner.verdicts.version}
        self._saved = self.recorder.rows // self.stream.checkpoint_rows
        self.recorder.publish(
            self.checkpoints,
            Checkpoint(
                tensors,
                {
                    "run": self.job.run,
                    "rows": self.recorder.rows,
                    "versions": versions,
                    "heard": self._lineage(),
                    "learner": learner,
                    "parts": parts,
                    "sums": dict(self.sums),
                    "said": self.said,
                },
            ),
        )

    def resume(self) -> None:
        """Take up the newest clean checkpoint, remove those that learned from revoked versions; else start
        at the hand-over.
        """
        if self.joiner:
            self.joiner.update()
        for block in reversed(self.checkpoints.blocks()):
            heard = self.checkpoints.whole_state(block).get("heard", {})
            bad = self.joiner.verdicts.revoked(heard) if self.joiner else []
            if bad and self.checkpoints.whole(block):  # which reads all of it: only where it matters
                self.journal.tell("rollback", checkpoint=block, revoked=bad)
                self.checkpoints.discard(block)
        latest = self.checkpoints.latest()
        if latest is not None:
            self._restore(latest[1])
        check_follows(self.inbox.events.path, self.inbox.versions["events"])
        if self.joiner:
            check_follows(self.joiner.log.path, self.joiner.version)
        if latest is None:
            return self._begin()
        self.recorder.start(latest[0])
        self._saved = self.recorder.rows // self.stream.checkpoint_rows
        self.journal.tell(
            "resume", rows=latest[0], events=self.inbox.versions["events"], again=self.recorder.recorded - latest[0]
        )

    def _begin(self) -> None:
        self.store.clear()
        self.recorder.start(0)
        self.journal.tell("start", events=self.inbox.versions["events"], again=self.recorder.recorded)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Take up a checkpoint; without the files it refers to, remove all of them and raise SetBack."""
        state = checkpoint.state
        own: dict[str, dict[str, Array]] = {name: {} for name, _ in self._parts()}
        for key, tensor in checkpoint.tensors.items():
            part, _, name = key.partition("/")
            if part in own:
                own[part][name] = tensor.numpy()
        if not self.store.restore(own.pop("store"), state["parts"]["store"]):
            for block in self.checkpoints.blocks():
                self.checkpoints.discard(block)
            raise SetBack("its live store is gone")
        for name, part in self._parts():
            if name != "store":
                part.restore(own[name], state["parts"][name])
        self.learner.restore(
            {k: v for k, v in checkpoint.tensors.items() if k.partition("/")[0] not in {*own, "store"}},
            state["learner"],
        )
        self.inbox.resume(state["versions"])
        self.heard = Counter({(t, v): rows for t, versions in state["heard"].items() for v, rows in versions.items()})
        self.sums, self.said = defaultdict(float, state["sums"]), state["said"]
