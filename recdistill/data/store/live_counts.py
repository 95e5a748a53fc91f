"""Counts of outcomes in a stream, by user or by item: those of the batch phase, then those that became known since."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recdistill.data.store.chains import Chains
from recdistill.data.store.label_order import NEVER
from recdistill.data.store.outcome_counts import OutcomeCounts
from recdistill.typing import Array

__all__ = ["LiveCounts"]

WAITING = {"key": ((0,), "int32"), "known": ((0,), "int64"), "added": ((0, 2), "int32")}


class LiveCounts:
    """What `OutcomeCounts` answers, of outcomes as they come: those known before the newest sample stand in chains with
    their running sums, the others wait.

    base: the batch phase's counts, None without one; since: the time from which on outcomes are counted here.
    """

    def __init__(self, folder: Path, base: OutcomeCounts | None, since: int) -> None:
        self.chains = Chains(folder, {"sums": ((2,), "int32")})
        self.base, self.since = base, since
        self._waiting = {name: np.zeros(shape, kind) for name, (shape, kind) in WAITING.items()}
        for outcomes in base.since(since) if base is not None else ():
            self.add(*outcomes)

    def add(self, key: Array, known: Array, added: Array) -> None:
        """Add outcomes: int keys [n], known us [n], labels and positives int32 [n, 2]; see `LabelClock.counted`."""
        here = known < NEVER
        new = {"key": key[here], "known": known[here], "added": added[here]}
        self._waiting = {
            name: np.concatenate((old, new[name])).astype(old.dtype) for name, old in self._waiting.items()
        }

    def release(self, newest: int) -> None:
        """Count the outcomes known before `newest` us, in the order in which they became known."""
        due = self._waiting["known"] < newest
        if not due.any():
            return
        key, known, added = (self._waiting[name][due] for name in WAITING)
        self._waiting = {name: values[~due] for name, values in self._waiting.items()}
        order = np.lexsort((known, key))
        key, known = key[order], known[order]
        sums = np.cumsum(added[order], 0, dtype=np.int64)
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        earlier = np.vstack((np.zeros((1, 2), np.int64), sums))[starts] - self._now(key[starts])
        sums -= np.repeat(earlier, np.diff(np.r_[starts, len(key)]), axis=0)
        self.chains.append(key, known, {"sums": sums.astype(np.int32)})

    def _now(self, key: Array) -> Array:
        """Return int32 [n, 2], the newest sums of each key in the chains."""
        return self._sums(key, np.full(len(key), NEVER))

    def _sums(self, key: Array, time: Array) -> Array:
        count, block = self.chains.ends(key, time)
        return np.where((count > 0)[:, None], self.chains.values("sums", count, block), 0)

    def before(self, key: Array, time: Array) -> Array:
        """Return int32 [n, 2]: labels and positives of each key, int [n], known strictly before `time` us [n], which is
        at most the time up to which outcomes were released.
        """
        found = self._sums(key, time)
        if self.base is not None:
            old = np.flatnonzero(key < len(self.base.first) - 1)
            found[old] += self.base.before(key[old], np.minimum(time[old], self.since))
        return found

    def released(self, keys: int) -> Array:
        """Return int32 [keys, 2], what was counted of the keys below `keys` so far; nothing is written."""
        every = np.arange(keys)
        found = self._now(every) if self.chains.used else np.zeros((keys, 2), np.int32)
        if self.base is not None:
            old = every[: len(self.base.first) - 1]
            found[old] += self.base.before(old, np.full(len(old), self.since))
        return found

    def state(self) -> dict[str, Array]:
        """Return what `restore` takes; what it refers to is on disk afterwards."""
        return {**{f"waiting_{name}": values for name, values in self._waiting.items()}, **self.chains.heads()}

    def restore(self, arrays: dict[str, Array]) -> bool:
        """Load what `state` gave; False, and nothing usable, when the folder lacks what it refers to."""
        self._waiting = {name: arrays[f"waiting_{name}"] for name in WAITING}
        return self.chains.restore({name: values for name, values in arrays.items() if not name.startswith("waiting_")})
