"""Labels that come later: what is decided about a sample when, and in which order that is learned.

    arrives --> its window ends --> learned, with the outcome told by then, or as a negative --> a positive comes late:
    corrected

All wait for their window, those told of at once too: positives are told sooner than negatives end, and a model that
learned them sooner would believe that there are more. Each task has its own outcomes; a sample is learned once for all
of them, and a late positive corrects its own task alone. A sample is kept until nothing can happen to it any more. All
of it is a function of the tables: commits of events say how far the outcomes were, and event time ends the window.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from recdistill.config.stream import LabelsConfig
from recdistill.data.store.live_store import LiveStore
from recdistill.stream.workers.table_follower import WITHOUT
from recdistill.typing import Array

__all__ = ["Decisions"]

OPEN, TOLD, NEGATIVE, CLOSED = (
    0,
    1,
    2,
    3,
)  # in its window: no outcome yet, one told; after it: learned as a negative, final
QUEUE = {"position": "int64", "labels": "float32", "again": "bool"}


class Decisions:
    """Which samples are to be learned next: `queue` holds their positions among all samples, labels of every task (NaN:
    nothing to learn), and whether they were learned before.

    late: event seconds after the window during which a positive may still come. Outcomes of samples not yet there wait
    that long.
    """

    def __init__(self, config: LabelsConfig, late_s: float, tasks: int) -> None:
        self.config, self.tasks = config, tasks
        self.window, self.late = int((config.window_s or 0.0) * 1e6), int(late_s * 1e6)
        self.queue = {name: np.zeros((0, tasks) if name == "labels" else 0, kind) for name, kind in QUEUE.items()}
        self.early = WITHOUT
        self.dropped: Counter[str] = Counter()
        self.positives, self.late_positives = np.zeros(tasks, np.int64), np.zeros(tasks, np.int64)

    @property
    def late_share(self) -> Array:
        """Return, per task, the share of positives so far that came after the window."""
        return self.late_positives / np.maximum(self.positives, 1)

    def arrived(self, store: LiveStore, rows: int) -> None:
        """Take the newest `rows` samples; those that came with a label have been told of."""
        if rows:
            known = ~np.isnan(store.rows["labels"][-rows:])
            store.rows["stage"][-rows:][known] = TOLD

    def decide(self, store: LiveStore, told: pl.DataFrame) -> None:
        """Take the outcomes `told` (sample_id, task, label, time us; in their order), then end the windows
        that are over.
        """
        told = pl.concat([self.early, told])
        self.early = WITHOUT
        if len(told) and len(store):
            ids = store.rows["sample_id"]
            order = np.argsort(ids, kind="stable")
            at = order[np.searchsorted(ids, told["sample_id"].to_numpy(), sorter=order).clip(max=len(ids) - 1)]
            met = ids[at] == told["sample_id"].to_numpy()
            self._outcomes(store, at[met], told.filter(pl.Series(met)))
            told = told.filter(pl.Series(~met))
        fresh = told["time"] >= store.newest - self.window - self.late
        self.dropped["outcome of no sample"] += int((~fresh).sum())
        self.early = told.filter(fresh)
        self._end_windows(store)

    def _outcomes(self, store: LiveStore, at: Array, told: pl.DataFrame) -> None:
        """Take outcomes of waiting samples, at positions among these; what was told first holds, but a
        positive replaces a negative.
        """
        task, label, time = (told[name].to_numpy() for name in ("task", "label", "time"))
        cell = at * self.tasks + task
        stage, labels = store.rows["stage"].reshape(-1), store.rows["labels"].reshape(-1)
        best = _firsts(np.where(label == 1, cell, -1 - np.arange(len(cell)))) | (_firsts(cell) & (label == 0))
        new = best & ((stage[cell] == OPEN) | ((stage[cell] == TOLD) & (label == 1) & (labels[cell] == 0)))
        late = best & (stage[cell] == NEGATIVE) & (label == 1)
        self.dropped["outcome twice"] += int((~new & ~late).sum())
        if self.config.late == "ignore":
            self.dropped["outcome late"] += int(late.sum())
            late[:] = False
        for which, next_ in ((new, TOLD), (late, CLOSED)):
            stage[cell[which]] = next_
            labels[cell[which]] = label[which]
        known = (new | late) & (task == 0)  # histories carry the first task's
        store.add_outcomes(at[known], np.maximum(time[known], store.rows["time"][at[known]]), label[known])
        alone = np.full((int(late.sum()), self.tasks), np.nan, np.float32)
        alone[np.arange(len(alone)), task[late]] = 1
        self._enqueue(store, at[late], alone, again=True)
        self.late_positives += np.bincount(task[late], minlength=self.tasks)

    def _end_windows(self, store: LiveStore) -> None:
        """Let the samples be learned whose window is over, in the order of the events."""
        if not len(store):
            return
        stage, time, labels = store.rows["stage"], store.rows["time"], store.rows["labels"]
        over = np.flatnonzero((stage[:, 0] <= TOLD) & (time + self.window < store.newest))
        nobody = over[stage[over, 0] == OPEN]
        labels[over] = np.nan_to_num(labels[over], nan=0.0)
        stage[over] = np.where(labels[over] == 1, CLOSED, NEGATIVE)
        store.add_outcomes(nobody, time[nobody] + self.window, np.zeros(len(nobody), np.float32))
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
        stage, time = store.rows["stage"], store.rows["time"]
        may_come = (stage == NEGATIVE).any(1) & (time + self.window + self.late >= store.newest)
        open_ = (stage[:, 0] <= TOLD) | may_come
        held = np.flatnonzero(open_)
        return min(waiting, int(held[0]) if len(held) else len(store))

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return what `restore` takes, as (arrays, JSON values)."""
        arrays = {f"queue/{name}": values for name, values in self.queue.items()}
        arrays |= {f"early/{name}": self.early[name].to_numpy() for name in self.early.columns}
        counted = {"positives": self.positives.tolist(), "late_positives": self.late_positives.tolist()}
        return arrays, {"dropped": dict(self.dropped), **counted}

    def restore(self, arrays: dict[str, Array], state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.queue = {name: arrays[f"queue/{name}"] for name in QUEUE}
        self.early = pl.DataFrame({name: arrays[f"early/{name}"] for name in WITHOUT.columns}, schema=WITHOUT.schema)
        self.dropped = Counter(state["dropped"])
        self.positives, self.late_positives = np.array(state["positives"]), np.array(state["late_positives"])


def _firsts(values: Array) -> Array:
    """Return bool [n]: whether a value stands there for the first time."""
    out = np.zeros(len(values), bool)
    out[np.unique(values, return_index=True)[1]] = True
    return out
