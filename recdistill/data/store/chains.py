"""Entries by key that grow: every key's in a chain of blocks, in memory-mapped columns that are only ever appended to.

    block     0      1      2      3            SIZE entries each; one belongs to one key
    known    [....] [....] [..  ] [.   ]
    before    -1     0      1     -1            the block before of the same key
    heads: per key its last block, its number of entries, and when the last became known

Nothing that was written changes, so a checkpoint needs the heads alone: whoever loads older heads again sees the
older entries, and writes the same ones to the same places.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recdistill.data.store.grouped import group_ranks
from recdistill.data.store.memmap import create_column
from recdistill.typing import Array

__all__ = ["SIZE", "Chains"]

SIZE = 16  # entries per block
FIRST = 1024  # blocks of new chains
HEADS = ("last", "count", "latest")
NEVER = np.iinfo(np.int64).min


class Chains:
    """The chains in `folder`, and the heads in memory; a key's entries stay in the order in which they are given.

    kinds: the columns besides `known`, name -> (shape of an entry, type).
    """

    def __init__(self, folder: Path, kinds: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        self.folder = folder
        self.used = 0
        self.last, self.count, self.latest = np.full(0, -1), np.zeros(0, np.int64), np.full(0, NEVER)
        self.kinds = {name: ((SIZE, *shape), kind) for name, (shape, kind) in {"known": ((), "int64"), **kinds}.items()}
        self.kinds["before"] = ((1,), "int64")
        self._columns: dict[str, Array] = {}

    def heads(self) -> dict[str, Array]:
        """Return what `restore` takes, synced to disk as far as it points into the chains."""
        for column in self._columns.values():
            if isinstance(column, np.memmap):
                column.flush()
        return {name: getattr(self, name).copy() for name in HEADS} | {"used": np.array([self.used])}

    def restore(self, heads: dict[str, Array]) -> bool:
        """Load `heads`; return False, and stay empty, when the files do not hold what they point to."""
        used = int(heads["used"][0])
        found = self._open()
        if used and (found is None or min(map(len, found.values())) < used):
            return False
        self._columns = found or {}
        self.used = used
        self.last, self.count, self.latest = (heads[name].copy() for name in HEADS)
        return True

    def _open(self) -> dict[str, Array] | None:
        paths = {name: self.folder / f"{name}.npy" for name in self.kinds}
        if not all(path.exists() for path in paths.values()):
            return None
        return {name: np.load(path, mmap_mode="r+", allow_pickle=False) for name, path in paths.items()}

    def _make_room(self, keys: int, blocks: int) -> None:
        """Let the heads hold `keys` keys and the columns `blocks` blocks."""
        more = keys - len(self.last)
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
        for name, (shape, kind) in self.kinds.items():
            column = create_column(self.folder, f"{name}.part", (blocks, *shape), kind)
            if old:
                column[: len(old[name])] = old[name]
            larger[name] = column
        for name in self.kinds:
            os.replace(self.folder / f"{name}.part.npy", self.folder / f"{name}.npy")
        self._columns = larger

    def append(self, key: Array, known: Array, values: Mapping[str, Array]) -> None:
        """Append entries, int keys [n] in order of `known` us, `values` by column; one known before its key's last
        counts as known with that.
        """
        if not len(key):
            return
        order, rank = group_ranks(key)
        key = key[order]
        self._make_room(int(key[-1]) + 1, self.used + len(key))
        position = self.count[key] + rank
        block = self._blocks(key, rank, position % SIZE == 0)
        known = np.maximum(known[order], self.latest[key])
        for name, column in ({"known": known} | {name: column[order] for name, column in values.items()}).items():
            self._columns[name][block, position % SIZE] = column
        ends = np.r_[key[1:] != key[:-1], True]
        self.last[key[ends]], self.count[key[ends]], self.latest[key[ends]] = (
            block[ends],
            position[ends] + 1,
            known[ends],
        )

    def _blocks(self, key: Array, rank: Array, fresh: Array) -> Array:
        """Return int64 [n], the block of each entry (sorted by key), new ones chained where `fresh`."""
        starts, at = rank == 0, np.arange(len(key))
        block = np.where(fresh, self.used + np.cumsum(fresh) - 1, self.last[key])
        block = block[np.maximum.accumulate(np.where(fresh | starts, at, 0))]
        self.used += int(fresh.sum())
        before = np.where(starts, self.last[key], block[at - 1])
        self._columns["before"][block[fresh], 0] = before[fresh]
        return block

    def ends(self, key: Array, time: Array) -> tuple[Array, Array]:
        """Return (int64 [n]: how many entries of each key were known strictly before `time` us, int64 [n]: the block of
        the last of them). Quick where few came after: a step per block of those.
        """
        self._make_room(int(key.max(initial=0)) + 1, 1)
        count, block = self.count[key], self.last[key]
        late = np.flatnonzero((count > 0) & (self.latest[key] >= time))
        while len(late):
            filled = (count[late] - 1) % SIZE + 1
            early = (self._columns["known"][block[late]] < time[late, None]) & (np.arange(SIZE) < filled[:, None])
            left = early.sum(1)
            count[late] -= filled - left
            late = late[(left == 0) & (count[late] > 0)]
            block[late] = self._columns["before"][block[late], 0]
        return count, block

    def values(self, name: str, count: Array, block: Array) -> Array:
        """Return a column [n, ...] at the ends (count, block) that `ends` gave; anything where there are none."""
        return np.asarray(self._columns[name][np.maximum(block, 0), (count - 1) % SIZE])
