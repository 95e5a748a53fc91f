"""Labels that come later: what is decided about a sample when, and in which order that is learned.

    arrives --> its window ends --> learned, with the outcome known by then, or as a negative --> a positive comes late:
    corrected

All wait for the end of their label window, those with an outcome too: positives are known sooner than windows end, and
a model that learned them sooner would believe that there are more. Each task has its own outcomes; a sample is learned
once for all of them, and a late positive corrects its own task alone. A sample is kept until nothing can happen to it
any more. All of it is a function of the tables: commits of events record how far the outcomes were, and event time ends
the window.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import Any

import numpy as np
import polars as pl

from recdistill.config.data import LabelsConfig
from recdistill.data.store.live_store import LiveStore
from recdistill.stream.workers.table_follower import NO_OUTCOMES
from recdistill.typing import Array

__all__ = ["DelayedLabels", "LabelStatus"]

QUEUE = {"position": "int64", "labels": "float32", "again": "bool"}


class LabelStatus(IntEnum):
    """What is known of one label of a waiting sample; the first two are within its label window."""

    OPEN = 0  # no outcome yet
    KNOWN = 1
    NEGATIVE = 2  # learned as a negative; a positive may still come
    FINAL = 3


class DelayedLabels:
    """Which samples are to be learned next: `queue` holds their positions among all samples, labels of every task (NaN:
    nothing to learn), and again: whether they were learned before.

    late: event seconds after the window during which a positive may still come. Outcomes of samples not yet there wait
    that long.
    """

    def __init__(self, config: LabelsConfig, late_s: float, tasks: int) -> None:
        self.config, self.tasks = config, tasks
        self.label_window, self.late = int((config.window_s or 0.0) * 1e6), int(late_s * 1e6)
        self.queue = {name: np.zeros((0, tasks) if name == "labels" else 0, kind) for name, kind in QUEUE.items()}
        self.early = NO_OUTCOMES
        self.dropped: Counter[str] = Counter()
        self.positives, self.late_positives = np.zeros(tasks, np.int64), np.zeros(tasks, np.int64)

    @property
    def late_share(self) -> Array:
        """Return, per task, the share of positives so far that came after the window."""
        return self.late_positives / np.maximum(self.positives, 1)

    def arrived(self, store: LiveStore, rows: int) -> None:
        """Take the newest `rows` samples; those that came with a label have their outcome."""
        if rows:
            known = ~np.isnan(store.rows["labels"][-rows:])
            store.rows["label_status"][-rows:][known] = LabelStatus.KNOWN

    def decide(self, store: LiveStore, outcomes: pl.DataFrame) -> None:
        """Take `outcomes` (sample_id, task, label, time us; in their order), then end the windows
        that are over.
        """
        outcomes = pl.concat([self.early, outcomes])
        at, met = _places(store, outcomes)
        unmet = outcomes.filter(~met)
        fresh = unmet["time"] >= store.newest - self.label_window - self.late
        self.dropped["outcome of no sample"] += int((~fresh).sum())
        found, at = outcomes.filter(met), at[met.to_numpy()]
        late = found["time"].to_numpy() > store.rows["time"][at] + self.label_window if len(at) else np.zeros(0, bool)
        self._outcomes(store, at[~late], found.filter(~pl.Series(late)))
        self._end_windows(store)
        over = store.rows["label_status"][at, 0] > LabelStatus.KNOWN if len(at) else late
        self._outcomes(store, at[late & over], found.filter(pl.Series(late & over)))
        self.early = pl.concat([found.filter(pl.Series(late & ~over)), unmet.filter(fresh)])

    def _outcomes(self, store: LiveStore, at: Array, outcomes: pl.DataFrame) -> None:
        """Take outcomes of waiting samples, at positions among these; the first holds, but a
        positive replaces a negative.
        """
        if not len(at):
            return
        task, label, time = (outcomes[name].to_numpy() for name in ("task", "label", "time"))
        cell = at * self.tasks + task
        status, labels = store.rows["label_status"].reshape(-1), store.rows["labels"].reshape(-1)
        positive, first = label == 1, _firsts(cell)
        best = first | (_firsts(np.where(positive, cell, -1)) & positive)
        again = ~first | (status[cell] != LabelStatus.OPEN)
        new = best & (
            (status[cell] == LabelStatus.OPEN) | ((status[cell] == LabelStatus.KNOWN) & positive & (labels[cell] == 0))
        )
        late = best & (status[cell] == LabelStatus.NEGATIVE) & positive
        self.dropped["outcome twice"] += int((~new & ~late).sum())
        if self.config.late == "ignore":
            self.dropped["outcome late"] += int(late.sum())
            late[:] = False
        for which, next_ in ((new, LabelStatus.KNOWN), (late, LabelStatus.FINAL)):
            status[cell[which]] = next_
            labels[cell[which]] = label[which]
        known = (new | late) & (task == 0)  # histories carry the first task's
        store.add_outcomes(
            at[known], np.maximum(time[known], store.rows["time"][at[known]]), label[known], again[known]
        )
        alone = np.full((int(late.sum()), self.tasks), np.nan, np.float32)
        alone[np.arange(len(alone)), task[late]] = 1
        self._enqueue(store, at[late], alone, again=True)
        self.late_positives += np.bincount(task[late], minlength=self.tasks)

    def _end_windows(self, store: LiveStore) -> None:
        """Let the samples be learned whose window is over, in the order of the events."""
        if not len(store):
            return
        status, time, labels = store.rows["label_status"], store.rows["time"], store.rows["labels"]
        over = np.flatnonzero((status[:, 0] <= LabelStatus.KNOWN) & (time + self.label_window < store.newest))
        nobody = over[status[over, 0] == LabelStatus.OPEN]
        labels[over] = np.nan_to_num(labels[over], nan=0.0)
        status[over] = np.where(labels[over] == 1, LabelStatus.FINAL, LabelStatus.NEGATIVE)
        store.add_outcomes(nobody, time[nobody] + self.label_window, np.zeros(len(nobody), np.float32))
        self._enqueue(store, over, labels[over], again=False)

    def _enqueue(self, store: LiveStore, at: Array, labels: Array, again: bool) -> None:
        new = {"position": store.rows.first + at, "labels": labels, "again": np.full(len(at), again)}
        self.queue = {name: np.concatenate((old, new[name])) for name, old in self.queue.items()}
        self.positives += (labels == 1).sum(0)

    def take(self, rows: int) -> dict[str, Array]:
        """Return the next `rows` entries of the queue, and remove them."""
        taken = {name: values[:rows] for name, values in self.queue.items()}
        self.queue = {name: values[rows:] for name, values in self.queue.items()}
        return taken

    def spent(self, store: LiveStore) -> int:
        """Return how many of the oldest samples nothing can happen to any more."""
        if not len(store):
            return 0
        waiting = int(self.queue["position"].min(initial=store.rows.first + len(store))) - store.rows.first
        status, time = store.rows["label_status"], store.rows["time"]
        may_come = (status == LabelStatus.NEGATIVE).any(1) & (time + self.label_window + self.late >= store.newest)
        open_ = (status[:, 0] <= LabelStatus.KNOWN) | may_come
        held = np.flatnonzero(open_)
        return min(waiting, int(held[0]) if len(held) else len(store))

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return what `restore` takes, as (arrays, JSON values)."""
        arrays = {f"queue/{name}": values for name, values in self.queue.items()}
        arrays |= {f"early/{name}": self.early[name].to_numpy() for name in self.early.columns}
        counted = {"positives": self.positives.tolist(), "late_positives": self.late_positives.tolist()}
        return arrays, {"dropped": dict(self.dropped), **counted}

    def restore(self, arrays: dict[str, Array], state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.queue = {name: arrays[f"queue/{name}"] for name in QUEUE}
        self.early = pl.DataFrame(
            {name: arrays[f"early/{name}"] for name in NO_OUTCOMES.columns}, schema=NO_OUTCOMES.schema
        )
        self.dropped = Counter(state["dropped"])
        self.positives, self.late_positives = np.array(state["positives"]), np.array(state["late_positives"])


def _places(store: LiveStore, outcomes: pl.DataFrame) -> tuple[Array, pl.Series]:
    """Return (position of each outcome's sample among the waiting ones, whether it is among them)."""
    ids, wanted = store.rows["sample_id"] if len(store) else np.zeros(0, np.int64), outcomes["sample_id"].to_numpy()
    if not len(ids) or not len(wanted):
        return np.zeros(len(wanted), np.int64), pl.Series(np.zeros(len(wanted), bool))
    order = np.argsort(ids, kind="stable")
    at = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return at, pl.Series(ids[at] == wanted)


def _firsts(values: Array) -> Array:
    """Return bool [n]: whether a value stands there for the first time."""
    out = np.zeros(len(values), bool)
    out[np.unique(values, return_index=True)[1]] = True
    return out
