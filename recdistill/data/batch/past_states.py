"""A teacher's recorded hidden states by user: for each sample those of the user's last samples strictly before it in
time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recdistill.data.store.memmap import create_column, open_column
from recdistill.data.store.sample_store import SampleStore
from recdistill.typing import Array

__all__ = ["PastStates", "write_order"]


def write_order(folder: Path, store: SampleStore) -> None:
    """Write, for `PastStates`, the samples by user in order of time, and where each one's past lies there;
    memory O(samples).
    """
    user, time = np.asarray(store.user), np.asarray(store.time)
    order = np.argsort(user, kind="stable")
    by_user, by_time = user[order], time[order]
    at = np.arange(len(order))
    new_user = np.r_[True, by_user[1:] != by_user[:-1]]
    new_time = new_user | np.r_[True, by_time[1:] != by_time[:-1]]
    first, stop = (np.maximum.accumulate(np.where(new, at, 0)) for new in (new_user, new_time))
    for name, place, values in (("order", at, order), ("first", order, first), ("stop", order, stop)):
        create_column(folder, name, (len(order),), "int64")[place] = values


@dataclass(frozen=True)
class PastStates:
    """codes: uint8 [N, bytes] in the store's order; recorded: bool [N], where there is one; time: int64 [N], us; a
    sample reads those of the last `count` before it that are at most `window` us older, None: however old.
    """

    codes: Array
    recorded: Array
    order: Array
    first: Array
    stop: Array
    time: Array
    count: int
    window: int | None

    @classmethod
    def open(
        cls, folder: Path, codes: Array, recorded: Array, time: Array, count: int, window: int | None = None
    ) -> PastStates:
        """Open what `write_order` wrote."""
        order, first, stop = (open_column(folder, name) for name in ("order", "first", "stop"))
        return cls(codes, recorded, order, first, stop, time, count, window)

    def gather(self, rows: Array) -> tuple[Array, Array]:
        """Return (uint8 [R, count, bytes], int64 [R] how many there are) of samples at positions `rows`,
        oldest first, left-aligned.
        """
        stop = self.stop[rows]
        start = np.maximum(self.first[rows], stop - self.count)
        step = np.arange(self.count)
        there = step < (stop - start)[:, None]
        at = self.order[np.where(there, start[:, None] + step, 0)]
        there &= self.recorded[at]
        if self.window is not None:
            there &= self.time[at] >= self.time[rows][:, None] - self.window
        place = np.argsort(~there, axis=1, kind="stable")  # those that are there first, in order
        codes = np.where(there[:, :, None], self.codes[at], 0)
        return np.take_along_axis(codes, place[:, :, None], 1), there.sum(1)
