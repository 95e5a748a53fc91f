"""Histories that grow: every user's events in a chain of blocks, in memory-mapped columns that are only ever appended
to.

    block     0      1      2      3            SIZE events each; one belongs to one user
    item    [....] [....] [..  ] [.   ]
    before    -1     0      1     -1            the block before of the same user
    heads: per user its last block, its number of events, and when the last became known

Nothing that was written changes, so a checkpoint needs the heads alone: whoever loads older heads again sees the
older histories, and writes the same events to the same places.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from recdistill.data.store.history import Events, group_ranks
from recdistill.data.store.memmap import create_column
from recdistill.typing import Array

__all__ = ["HistoryArena"]

SIZE = 16  # events per block
FIRST = 1024  # blocks of a new arena
COLUMNS = {
    "item": ("int32", SIZE),
    "time": ("int64", SIZE),
    "known": ("int64", SIZE),
    "action": ("uint8", SIZE),
    "before": ("int64", 1),
}
HEADS = ("last", "count", "latest")
NEVER = np.iinfo(np.int64).min


class HistoryArena:
    """The arena in `folder`, and the heads in memory. Events of a user stay in the order in which they are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used = 0
        self.last, self.count, self.latest = np.full(0, -1), np.zeros(0, np.int64), np.full(0, NEVER)
        self._columns: dict[str, Array] = {}

    def heads(self) -> dict[str, Array]:
        """Return what `restore` takes, synced to disk as far as it points into the arena."""
        for column in self._columns.values():
            if isinstance(column, np.memmap):
                column.flush()
        return {name: getattr(self, name).copy() for name in HEADS} | {"used": np.array([self.used])}

    def restore(self, heads: dict[str, Array]) -> bool:
        """Load `heads`; return False, and stay empty, when the arena does not hold what they point to."""
        used = int(heads["used"][0])
        found = self._open()
        if used and (found is None or min(map(len, found.values())) < used):
            return False
        self._columns = found or {}
        self.used = used
        self.last, self.count, self.latest = (heads[name].copy() for name in HEADS)
        return True

    def _open(self) -> dict[str, Array] | None:
        paths = {name: self.folder / f"{name}.npy" for name in COLUMNS}
        if not all(path.exists() for path in paths.values()):
            return None
        return {name: np.load(path, mmap_mode="r+", allow_pickle=False) for name, path in paths.items()}

    def _make_room(self, users: int, blocks: int) -> None:
        """Let the heads hold `users` users and the arena `blocks` blocks."""
        more = users - len(self.last)
        if more > 0:
            more = max(more, len(self.last) // 2)
            self.last = np.r_[self.last, np.full(more, -1)]
            self.count = np.r_[self.count, np.zeros(more, np.int64)]
            self.latest = np.r_[self.latest, np.full(more, NEVER)]
        if not self._columns or len(self._columns["before"]) < blocks:
            self._grow(max(FIRST, blocks + blocks // 2))

    def _grow(self, blocks: int) -> None:
        """Replace every column by a larger one, by rename: who has the old one mapped keeps it."""
        old, larger = self._columns, {}
        for name, (kind, size) in COLUMNS.items():
            column = create_column(self.folder, f"{name}.part", (blocks, size), kind)
            if old:
                column[: len(old[name])] = old[name]
            larger[name] = column
        for name in COLUMNS:
            os.replace(self.folder / f"{name}.part.npy", self.folder / f"{name}.npy")
        self._columns = larger

    def add(self, user: Array, item: Array, time: Array, known: Array, action: Array) -> None:
        """Append events, int arrays [n] in order of `known` us; one known before its user's last counts as
        known with that.
        """
        if not len(user):
            return
        order, rank = group_ranks(user)
        user, known = user[order], known[order]
        self._make_room(int(user[-1]) + 1, self.used + len(user))
        columns, position = self._columns, self.count[user] + rank
        slot, fresh = position % SIZE, position % SIZE == 0
        block = self._blocks(user, rank, fresh)
        known = np.maximum(known, self.latest[user])
        for name, values in (("item", item[order]), ("time", time[order]), ("known", known), ("action", action[order])):
            columns[name][block, slot] = values
        ends = np.r_[user[1:] != user[:-1], True]
        self.last[user[ends]], self.count[user[ends]], self.latest[user[ends]] = (
            block[ends],
            position[ends] + 1,
            known[ends],
        )

    def _blocks(self, user: Array, rank: Array, fresh: Array) -> Array:
        """Return int64 [n], the block of each event (sorted by user), new ones chained where `fresh`."""
        starts, at = rank == 0, np.arange(len(user))
        block = np.where(fresh, self.used + np.cumsum(fresh) - 1, self.last[user])
        block = block[np.maximum.accumulate(np.where(fresh | starts, at, 0))]
        self.used += int(fresh.sum())
        before = np.where(starts, self.last[user], block[at - 1])
        self._columns["before"][block[fresh], 0] = before[fresh]
        return block

    def history_end(self, user: Array, time: Array) -> Array:
        """Return int64 [n]: how many events of each user were known strictly before `time` us. Quick where
        few came after.
        """
        self._make_room(int(user.max(initial=0)) + 1, 1)
        count, block = self.count[user], self.last[user]
        late = np.flatnonzero((count > 0) & (self.latest[user] >= time))
        while len(late):
            slot = (count[late] - 1) % SIZE
            still = self._columns["known"][block[late], slot] >= time[late]
            late, slot = late[still], slot[still]
            count[late] -= 1
            emptied = late[slot == 0]
            block[emptied] = self._columns["before"][block[emptied], 0]
            late = late[count[late] > 0]
        return np.asarray(count)

    def gather(self, user: Array, start: Array, stop: Array, before: Events) -> Events:
        """Return per history the events of `before` (R of them), then those at [start, stop) of its user,
        oldest first.
        """
        had, new = np.diff(before.offsets), stop - start
        offsets = np.r_[0, np.cumsum(had + new)]
        out = Events(offsets, *(np.empty(offsets[-1], column.dtype) for column in before[1:]))
        old = np.arange(len(before.item)) + np.repeat(offsets[:-1] - before.offsets[:-1], had)
        for column, values in zip(out[1:], before[1:], strict=True):
            column[old] = values
        self._fill(out, offsets[:-1] + had - start, user, start, stop)
        return out

    def _fill(self, out: Events, first: Array, user: Array, start: Array, stop: Array) -> None:
        """Write event k of a user, start <= k < stop, to first + k, block by block from the newest."""
        row = np.flatnonzero(stop > start)
        if not len(row):
            return
        block, number = self.last[user[row]], (self.count[user[row]] - 1) // SIZE
        slots = np.arange(SIZE)
        while len(row):
            at = number[:, None] * SIZE + slots
            inside = (at >= start[row, None]) & (at < stop[row, None])
            target = (at + first[row, None])[inside]
            source = np.broadcast_to(block[:, None], at.shape)[inside], np.broadcast_to(slots, at.shape)[inside]
            for column, name in ((out.item, "item"), (out.time, "time"), (out.action, "action")):
                column[target] = self._columns[name][source]
            more = number * SIZE > start[row]
            row, block, number = row[more], self._columns["before"][block[more], 0], number[more] - 1
