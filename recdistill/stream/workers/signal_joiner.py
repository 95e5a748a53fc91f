"""Signals to the samples that wait for them, by id; samples to the signals that came first; both up to a bound.

A signal is used when it is there, the gate has cleared its row, and its teacher's turn it is. Whatever ends differently
is counted by its cause. What is decided about a sample is a function of the tables alone, as long as no bound falls
due.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.store.live_store import LiveStore
from recdistill.signals.columns import CANDIDATES
from recdistill.stream.progress import ModelAbout, read_about
from recdistill.tables.delta.commits import Commit
from recdistill.tables.delta.fixed_bytes import from_bytes
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog, Verdicts
from recdistill.typing import Array

__all__ = ["Joiner", "empty_columns"]

SILENT = 60.0  # seconds without a word after which a teacher, or the gate, counts as down
NEVER = np.iinfo(np.int64).max
UNDECIDED, SAID, HEARD, BARRED, GIVEN_UP = (
    0,
    1,
    2,
    3,
    4,
)  # a sample's fate: nothing yet, not judged yet, used, bad version, no more
EARLY = {"sample_id": "int64", "time": "int64", "teacher": "int8", "version": "int32", "row": "int64"}


def empty_columns(rows: int, tasks: int, candidates: int) -> dict[str, Array]:
    """Return the columns of the live store that a joiner keeps of `rows` new samples; candidates: how many
    it hears of each.
    """
    return {
        "fate": np.zeros(rows, np.int8),
        "signals": np.full((rows, tasks), np.nan, np.float32),
        "teacher": np.full(rows, -1, np.int8),
        "version": np.full(rows, -1, np.int32),
        "row": np.full(rows, -1),
        "beside": np.full((rows, candidates, tasks), np.nan, np.float16),
    }


class Joiner:
    """What a student knows of its teachers' predictions and of what is thought of them.

    wait: event seconds that either side waits. first: the teacher to hear until another's turn begins. candidates: how
    many of a sample's it hears.
    """

    def __init__(
        self, predictions: Path, verdicts: Path, tasks: int, wait: float, first: str, candidates: int = 0
    ) -> None:
        self.log, self.verdict_log = PredictionLog.open(predictions), VerdictLog.open(verdicts)
        self.verdicts = Verdicts()
        self._last_word = time.monotonic()  # when a teacher or the gate was heard last
        self._changed = True  # what was decided before may be decided otherwise now
        self.tasks, self.wait, self.first, self.candidates = tasks, int(wait * 1e6), first, candidates
        self.version = -1  # of the predictions table, read up to
        self.teachers = [first]
        self.said: Counter[str] = Counter()  # rows per teacher@version
        self.ended: set[str] = set()
        self.watermark = 0  # event time of the newest signal, us
        self.missing: Counter[str] = Counter()
        self.early = {name: np.zeros(0, kind) for name, kind in EARLY.items()}
        self.early |= {
            "logits": np.zeros((0, tasks), np.float32),
            "beside": np.zeros((0, candidates, tasks), np.float16),
        }
        self.lost = {
            "sample_id": np.zeros(0, np.int64),
            "time": np.zeros(0, np.int64),
        }  # samples learned without, lately

    def update(self) -> bool:
        """Take up new verdicts; return whether there were any."""
        changed = self.verdicts.update(self.verdict_log)
        self._last_word = time.monotonic() if changed else self._last_word
        self._changed |= changed
        return changed

    def read(self, store: LiveStore) -> bool:
        """Read the next commit of a teacher and join it to the waiting samples; False when there is none."""
        for commit in self.log.commits(self.version):
            self.version = commit.version
            about, model = read_about(ModelAbout, commit.about), commit.about.get("model", "")
            if about is None or not (model == self.first or model.startswith(f"{self.first}-")):
                continue
            self._last_word = time.monotonic()
            (self.ended.add if about.end else self.ended.discard)(model)
            if commit.parts:
                self._take(commit, model, store)
            return True
        return False

    def _take(self, commit: Commit, model: str, store: LiveStore) -> None:
        if model not in self.teachers:
            self.teachers.append(model)
        names = [name for name in self.log.types if name.startswith("logit_")]
        rows = self.log.read(
            commit, ["sample_id", "time", "version", *names, *([CANDIDATES] if self.candidates else [])]
        )
        version = int(rows["version"][0])
        key = f"{model}@{version}"
        signals = {
            "sample_id": rows["sample_id"].to_numpy(),
            "time": rows["time"].dt.epoch("us").to_numpy(),
            "teacher": np.full(len(rows), self.teachers.index(model), np.int8),
            "version": rows["version"].to_numpy(),
            "row": np.arange(len(rows)) + self.said[key],
            "logits": rows.select(names).to_numpy(),
            "beside": self._beside(rows),
        }
        self.said[key] += len(rows)
        self.watermark = max(self.watermark, int(signals["time"].max()))
        turn = self._turns(rows["time"], model)
        self._join({name: values[turn] for name, values in signals.items()}, store)

    def _beside(self, rows: pl.DataFrame) -> Array:
        """Return float16 [n, candidates, K]: what is said of the samples' candidates, NaN where nothing is."""
        beside = np.full((len(rows), self.candidates, self.tasks), np.nan, np.float16)
        if self.candidates:
            has, held = from_bytes(rows[CANDIDATES], self.log.channels[CANDIDATES])
            beside[has] = held.view(np.float16).reshape(len(held), -1, self.tasks)[:, : self.candidates]
        return beside

    def _turns(self, times: pl.Series, model: str) -> Array:
        """Return bool [n]: whether it is `model`'s turn at each time."""
        if not self.verdicts.turns:
            return np.full(len(times), model == self.first)
        return np.array([self.verdicts.active(time, self.first) == model for time in times.to_list()])

    def arrived(self, store: LiveStore, rows: int) -> None:
        """Join the newest `rows` waiting samples to the signals that came before them."""
        if rows and len(self.early["sample_id"]):
            early, self.early = self.early, {name: values[:0] for name, values in self.early.items()}
            self._join(early, store)

    def _join(self, signals: dict[str, Array], store: LiveStore) -> None:
        """Give each signal to its waiting sample; those that meet none wait themselves."""
        waiting = np.flatnonzero(store.rows["fate"] == UNDECIDED) if len(store) else np.zeros(0, np.int64)
        at, hit = _positions(store.rows["sample_id"][waiting] if len(waiting) else waiting, signals["sample_id"])
        found = waiting[at[hit]] if len(waiting) else waiting
        if len(found):
            for name in ("teacher", "version", "row", "beside"):
                store.rows[name][found] = signals[name][hit]
            store.rows["signals"][found] = signals["logits"][hit]
            store.rows["fate"][found] = SAID
        left = self._count_late({name: values[~hit] for name, values in signals.items()})
        self.early = {name: np.concatenate((old, left[name])) for name, old in self.early.items()}

    def _count_late(self, signals: dict[str, Array]) -> dict[str, Array]:
        """Count the signals whose samples were learned without them; return the others."""
        late = np.isin(signals["sample_id"], self.lost["sample_id"])
        self.missing["signal late"] += int(late.sum())
        return {name: values[~late] for name, values in signals.items()} if late.any() else signals

    def judge(self, store: LiveStore) -> None:
        """Decide about the samples whose signal is there, as far as the gate has judged; again about all
        when a verdict is new.
        """
        if not len(store):
            return
        fate = store.rows["fate"]
        said = np.flatnonzero((fate == SAID) | (fate == HEARD)) if self._changed else np.flatnonzero(fate == SAID)
        self._changed = False
        if not len(said):
            return
        teacher, version, row = (store.rows[name][said] for name in ("teacher", "version", "row"))
        for code, number in {*zip(teacher.tolist(), version.tolist(), strict=True)}:
            key = (self.teachers[code], number)
            mine = (teacher == code) & (version == number)
            if key in self.verdicts.bad:
                store.rows["fate"][said[mine]] = BARRED
                _silence(store, said[mine])
            else:
                store.rows["fate"][said[mine & (row < self.verdicts.cleared.get(key, 0))]] = HEARD

    def ready(self, store: LiveStore, newest: int) -> int:
        """Return how many of the oldest samples are decided about; `newest` is the event time, us, that has been
        reached.

        Given up are those without a signal whose teacher has gone on for longer than `wait` without them, or has ended;
        and, where neither teacher nor gate has said anything for SILENT seconds, all that are older than the newest by
        `wait`.
        """
        if not len(store):
            return 0
        fate = store.rows["fate"]
        time_ = store.rows["time"]
        passed = self.watermark if not self.ended.issuperset(self.teachers) else NEVER
        gone = (fate == UNDECIDED) & (time_ < passed - self.wait)
        if time.monotonic() - self._last_word > SILENT:
            gone |= (fate <= SAID) & (time_ < max(newest, self.watermark) - self.wait)
        open_ = np.flatnonzero((fate <= SAID) & ~gone)
        count = int(open_[0]) if len(open_) else len(fate)
        given_up = np.flatnonzero(gone[:count])
        if len(given_up):
            store.rows["fate"][given_up] = GIVEN_UP
            _silence(store, given_up)
        return count

    def count(self, store: LiveStore, at: Array) -> Counter[tuple[str, str]]:
        """Count the fates of the samples at positions `at`, which are being learned.

        Returns how many are learned with a signal, by (teacher, version).
        """
        fate = store.rows["fate"][at]
        self.missing["quarantined"] += int((fate == BARRED).sum())
        self.missing["absent"] += int((fate == GIVEN_UP).sum())
        used = at[fate == HEARD]
        pairs = np.stack((store.rows["teacher"][used], store.rows["version"][used]))
        pairs, counts = np.unique(pairs, axis=1, return_counts=True)
        return Counter(
            {
                (self.teachers[code], str(number)): int(n)
                for (code, number), n in zip(pairs.T.tolist(), counts, strict=True)
            }
        )

    def forget(self, store: LiveStore, rows: int) -> None:
        """Forget the oldest `rows` samples, and what nothing waits for any more."""
        horizon = store.newest - self.wait
        given_up = store.rows["fate"][:rows] == GIVEN_UP
        if given_up.any() or len(self.lost["time"]):
            lost = {name: np.concatenate((old, store.rows[name][:rows][given_up])) for name, old in self.lost.items()}
            self.lost = {name: values[lost["time"] >= horizon] for name, values in lost.items()}
        old = self.early["time"] < horizon
        if old.any():
            self.missing["signal unknown"] += int(old.sum())
            self.early = {name: values[~old] for name, values in self.early.items()}

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return what `restore` takes, as (arrays, JSON values)."""
        arrays = {f"early/{name}": values for name, values in self.early.items()}
        arrays |= {f"lost/{name}": values for name, values in self.lost.items()}
        return arrays, {
            "version": self.version,
            "teachers": self.teachers,
            "said": dict(self.said),
            "ended": sorted(self.ended),
            "watermark": self.watermark,
            "missing": dict(self.missing),
        }

    def restore(self, arrays: dict[str, Array], state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        for key, values in arrays.items():
            part, name = key.split("/", 1)
            (self.early if part == "early" else self.lost)[name] = values
        self.version, self.watermark, self.teachers = state["version"], state["watermark"], list(state["teachers"])
        self.said, self.missing, self.ended = Counter(state["said"]), Counter(state["missing"]), set(state["ended"])


def _silence(store: LiveStore, at: Array) -> None:
    """Let nothing be heard of the waiting samples at `at`."""
    store.rows["signals"][at] = np.nan
    store.rows["beside"][at] = np.nan


def _positions(known: Array, wanted: Array) -> tuple[Array, Array]:
    """Return (at, hit): the place of each wanted id among the known, valid where `hit`."""
    if not len(known):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    first = int(np.searchsorted(known, wanted[0])) if len(wanted) else 0
    if np.array_equal(known[first : first + len(wanted)], wanted):  # a teacher speaks in the order of the events
        return np.arange(first, first + len(wanted)), np.ones(len(wanted), bool)
    order = np.argsort(known, kind="stable")
    at = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)]
    return at, known[at] == wanted
