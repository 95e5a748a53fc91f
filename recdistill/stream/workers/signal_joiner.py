"""Signals to the samples that wait for them, by id; samples to the signals that came first; both up to a bound.

A signal is used when it is there, the gate has approved its row, and its teacher is active at that time. Whatever ends
differently is counted by its cause. What is decided about a sample is a function of the tables alone, as long as no
bound falls due.
"""

from __future__ import annotations

import time
from collections import Counter
from enum import IntEnum
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.store.live_store import LiveStore
from recdistill.runs.names import is_teacher
from recdistill.signals.columns import CANDIDATES
from recdistill.storage.location import Location
from recdistill.stream.progress import ModelProgress, read_progress
from recdistill.tables.delta.commits import Commit
from recdistill.tables.delta.fixed_bytes import from_bytes
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog, Verdicts
from recdistill.typing import Array

__all__ = ["SignalJoiner", "SignalStatus", "empty_columns"]

SILENT = 60.0  # seconds without a commit after which a teacher, or the gate, counts as down
NEVER = np.iinfo(np.int64).max
EARLY = {"sample_id": "int64", "time": "int64", "teacher": "int8", "version": "int32", "row": "int64"}


class SignalStatus(IntEnum):
    """What is known of a waiting sample's signal; the first two are undecided."""

    NONE = 0  # there is none yet
    UNJUDGED = 1  # it is there, the gate has not approved its row yet
    USED = 2
    BARRED = 3  # its version is quarantined or revoked
    GIVEN_UP = 4  # none will be waited for


def empty_columns(rows: int, tasks: int, candidates: int) -> dict[str, Array]:
    """Return the columns of the live store that a joiner keeps of `rows` new samples; candidates: of how many per
    sample it takes the signals.
    """
    return {
        "signal_status": np.zeros(rows, np.int8),
        "signals": np.full((rows, tasks), np.nan, np.float32),
        "teacher": np.full(rows, -1, np.int8),
        "version": np.full(rows, -1, np.int32),
        "row": np.full(rows, -1),
        "candidate_signals": np.full((rows, candidates, tasks), np.nan, np.float16),
    }


class SignalJoiner:
    """A student's signals: its teachers' predictions, as far as the verdicts approve them.

    wait: event seconds that either side waits. first: the teacher that is active until another is. candidates: of how
    many per sample the signals are taken.
    """

    def __init__(
        self, predictions: Location, verdicts: Location, tasks: int, wait: float, first: str, candidates: int = 0
    ) -> None:
        self.log, self.verdict_log = PredictionLog.open(predictions), VerdictLog.open(verdicts)
        self.verdicts = Verdicts()
        self._last_sign = time.monotonic()  # when a teacher or the gate committed last
        self._changed = True  # what was decided before may be decided otherwise now
        self.tasks, self.wait, self.first, self.candidates = tasks, int(wait * 1e6), first, candidates
        self.version = -1  # of the predictions table, read up to
        self.teachers = [first]
        self.rows: Counter[str] = Counter()  # read so far, by teacher@version
        self.ended: set[str] = set()
        self.watermark = 0  # event time of the newest signal, us
        self.missing: Counter[str] = Counter()
        self.early = {name: np.zeros(0, kind) for name, kind in EARLY.items()}
        self.early |= {
            "logits": np.zeros((0, tasks), np.float32),
            "candidate_signals": np.zeros((0, candidates, tasks), np.float16),
        }
        # Samples learned without a signal, as long as one may still come.
        self.learned_without = {"sample_id": np.zeros(0, np.int64), "time": np.zeros(0, np.int64)}

    def update(self) -> bool:
        """Read new verdicts; return whether there were any."""
        changed = self.verdicts.update(self.verdict_log)
        self._last_sign = time.monotonic() if changed else self._last_sign
        self._changed |= changed
        return changed

    def read(self, store: LiveStore) -> bool:
        """Read the next commit of a teacher and join it to the waiting samples; False when there is none."""
        for commit in self.log.commits(self.version):
            self.version = commit.version
            progress, model = read_progress(ModelProgress, commit.metadata), commit.metadata.get("model", "")
            if progress is None or not is_teacher(model):
                continue
            self._last_sign = time.monotonic()
            (self.ended.add if progress.end else self.ended.discard)(model)
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
            "row": np.arange(len(rows)) + self.rows[key],
            "logits": rows.select(names).to_numpy(),
            "candidate_signals": self._candidate_signals(rows),
        }
        self.rows[key] += len(rows)
        self.watermark = max(self.watermark, int(signals["time"].max()))
        active = self._is_active(rows["time"], model)
        self._join({name: values[active] for name, values in signals.items()}, store)

    def _candidate_signals(self, rows: pl.DataFrame) -> Array:
        """Return float16 [n, candidates, K]: the logits of the samples' candidates, NaN where there are none."""
        signals = np.full((len(rows), self.candidates, self.tasks), np.nan, np.float16)
        if self.candidates:
            has, held = from_bytes(rows[CANDIDATES], self.log.channels[CANDIDATES])
            signals[has] = held.view(np.float16).reshape(len(held), -1, self.tasks)[:, : self.candidates]
        return signals

    def _is_active(self, times: pl.Series, model: str) -> Array:
        """Return bool [n]: whether `model` is the active teacher at each time."""
        if not self.verdicts.active_teacher_from:
            return np.full(len(times), model == self.first)
        return np.array([self.verdicts.active_teacher(time, self.first) == model for time in times.to_list()])

    def arrived(self, store: LiveStore, rows: int) -> None:
        """Join the newest `rows` waiting samples to the signals that came before them."""
        if rows and len(self.early["sample_id"]):
            early, self.early = self.early, {name: values[:0] for name, values in self.early.items()}
            self._join(early, store)

    def _join(self, signals: dict[str, Array], store: LiveStore) -> None:
        """Give each signal to its waiting sample; those that meet none wait themselves."""
        waiting = (
            np.flatnonzero(store.rows["signal_status"] == SignalStatus.NONE) if len(store) else np.zeros(0, np.int64)
        )
        at, hit = _positions(store.rows["sample_id"][waiting] if len(waiting) else waiting, signals["sample_id"])
        found = waiting[at[hit]] if len(waiting) else waiting
        if len(found):
            for name in ("teacher", "version", "row", "candidate_signals"):
                store.rows[name][found] = signals[name][hit]
            store.rows["signals"][found] = signals["logits"][hit]
            store.rows["signal_status"][found] = SignalStatus.UNJUDGED
        left = self._count_late({name: values[~hit] for name, values in signals.items()})
        self.early = {name: np.concatenate((old, left[name])) for name, old in self.early.items()}

    def _count_late(self, signals: dict[str, Array]) -> dict[str, Array]:
        """Count the signals whose samples were learned without them; return the others."""
        late = np.isin(signals["sample_id"], self.learned_without["sample_id"])
        self.missing["signal late"] += int(late.sum())
        return {name: values[~late] for name, values in signals.items()} if late.any() else signals

    def decide(self, store: LiveStore) -> None:
        """Decide about the samples whose signal is there, as far as the gate has judged; again about all
        when a verdict is new.
        """
        if not len(store):
            return
        status = store.rows["signal_status"]
        there = status == SignalStatus.UNJUDGED
        at = np.flatnonzero(there | (status == SignalStatus.USED)) if self._changed else np.flatnonzero(there)
        self._changed = False
        if not len(at):
            return
        teacher, version, row = (store.rows[name][at] for name in ("teacher", "version", "row"))
        for code, number in {*zip(teacher.tolist(), version.tolist(), strict=True)}:
            mine = (teacher == code) & (version == number)
            usable = self.verdicts.usable_rows(self.teachers[code], number)
            if usable is None:
                status[at[mine]] = SignalStatus.BARRED
                _remove_signals(store, at[mine])
            else:
                status[at[mine & (row < usable)]] = SignalStatus.USED

    def ready(self, store: LiveStore, newest: int) -> int:
        """Return how many of the oldest samples are decided about; `newest` is the event time, us, that has been
        reached.

        Given up are those without a signal whose teacher has gone on for longer than `wait` without them, or has ended;
        and, where neither teacher nor gate has committed for SILENT seconds, all that are older than the newest by
        `wait`.
        """
        if not len(store):
            return 0
        status = store.rows["signal_status"]
        time_ = store.rows["time"]
        passed = self.watermark if not self.ended.issuperset(self.teachers) else NEVER
        gone = (status == SignalStatus.NONE) & (time_ < passed - self.wait)
        if time.monotonic() - self._last_sign > SILENT:
            gone |= (status <= SignalStatus.UNJUDGED) & (time_ < max(newest, self.watermark) - self.wait)
        open_ = np.flatnonzero((status <= SignalStatus.UNJUDGED) & ~gone)
        count = int(open_[0]) if len(open_) else len(status)
        given_up = np.flatnonzero(gone[:count])
        if len(given_up):
            store.rows["signal_status"][given_up] = SignalStatus.GIVEN_UP
            _remove_signals(store, given_up)
        return count

    def count(self, store: LiveStore, at: Array) -> Counter[tuple[str, str]]:
        """Count the signals of the samples at positions `at`, which are being learned.

        Returns how many are learned with a signal, by (teacher, version).
        """
        status = store.rows["signal_status"][at]
        self.missing["quarantined"] += int((status == SignalStatus.BARRED).sum())
        self.missing["absent"] += int((status == SignalStatus.GIVEN_UP).sum())
        used = at[status == SignalStatus.USED]
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
        given_up = store.rows["signal_status"][:rows] == SignalStatus.GIVEN_UP
        if given_up.any() or len(self.learned_without["time"]):
            lost = {
                name: np.concatenate((old, store.rows[name][:rows][given_up]))
                for name, old in self.learned_without.items()
            }
            self.learned_without = {name: values[lost["time"] >= horizon] for name, values in lost.items()}
        old = self.early["time"] < horizon
        if old.any():
            self.missing["signal unknown"] += int(old.sum())
            self.early = {name: values[~old] for name, values in self.early.items()}

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return what `restore` takes, as (arrays, JSON values)."""
        arrays = {f"early/{name}": values for name, values in self.early.items()}
        arrays |= {f"learned_without/{name}": values for name, values in self.learned_without.items()}
        return arrays, {
            "version": self.version,
            "teachers": self.teachers,
            "rows": dict(self.rows),
            "ended": sorted(self.ended),
            "watermark": self.watermark,
            "missing": dict(self.missing),
        }

    def restore(self, arrays: dict[str, Array], state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        for key, values in arrays.items():
            part, name = key.split("/", 1)
            (self.early if part == "early" else self.learned_without)[name] = values
        self.version, self.watermark, self.teachers = state["version"], state["watermark"], list(state["teachers"])
        self.rows, self.missing, self.ended = Counter(state["rows"]), Counter(state["missing"]), set(state["ended"])


def _remove_signals(store: LiveStore, at: Array) -> None:
    """Remove the signals of the waiting samples at `at`."""
    store.rows["signals"][at] = np.nan
    store.rows["candidate_signals"][at] = np.nan


def _positions(known: Array, wanted: Array) -> tuple[Array, Array]:
    """Return (at, hit): the place of each wanted id among the known, valid where `hit`."""
    if not len(known):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    first = int(np.searchsorted(known, wanted[0])) if len(wanted) else 0
    if np.array_equal(known[first : first + len(wanted)], wanted):  # a teacher predicts in the order of the events
        return np.arange(first, first + len(wanted)), np.ones(len(wanted), bool)
    order = np.argsort(known, kind="stable")
    at = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)]
    return at, known[at] == wanted
