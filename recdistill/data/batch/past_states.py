"""A teacher's recorded hidden states by user: for each sample those of the user's last samples strictly before it in
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recdistill.data.store.grouped import slabs, write_grouped
from recdistill.data.store.memmap import create_column, open_column
from recdistill.data.store.sample_store import SampleStore
from recdistill.typing import Array

__all__ = ["PastStates", "write_order"]

CHUNK = 131_072  # rows looked at together


def write_order(folder: Path, store: SampleStore) -> None:
    """Write, for `PastStates`, the samples by user in order of time, and where each one's past lies there;
    memory O(chunk + users).
    """

    def by_user() -> Iterator[tuple[Array, ...]]:
        for low in range(0, len(store), CHUNK):
            part = slice(low, low + CHUNK)
            yield store.user[part], store.time[part], np.arange(low, low + len(store.user[part]))

    grouped = write_grouped(folder, "past_", {"order": ((), "int64")}, by_user, store.users)
    order, starts, time = grouped["order"], grouped["first"], grouped["known"]
    first, stop = (create_column(folder, name, (len(order),), "int64") for name in ("first", "stop"))
    for part, user in slabs(starts):
        at, rows = np.arange(part.start, part.stop), order[part]
        new_time = np.r_[True, (user[1:] != user[:-1]) | (time[part][1:] != time[part][:-1])] if len(at) else at
        first[rows], stop[rows] = starts[user], np.maximum.accumulate(np.where(new_time, at, 0))
    (folder / "past_order.npy").rename(folder / "order.npy")
    for name in ("known", "first"):
        (folder / f"past_{name}.npy").unlink()


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
