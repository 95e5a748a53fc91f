"""Ids to their indices in one memory-mapped file: any number of ids costs a process no memory of its own.

    path    int64 [slots, 3]: a 128-bit key and the index, at the key's place or the next free one after it (open
            addressing). Index 0 is an empty slot; -1 one whose id was taken back, which look-ups pass.

The key of a whole number is itself, that of text its BLAKE2b digest: two texts share one by a chance of 1 in 2^128.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.data.store.memmap import create_column
from recdistill.errors import RecdistillError
from recdistill.typing import Array

__all__ = ["IdTable", "keys_of"]

FIRST = 1024  # slots of a new file
FILLED = 0.5  # the share of its slots at which a file is replaced by a larger one
PIECE = 1 << 18  # slots read at a time
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: neighbours land far apart
EMPTY, GONE = 0, -1


def keys_of(ids: Sequence[object]) -> Array:
    """Return int64 [n, 2], the keys of ids, all whole numbers of 64 bits or all text."""
    if len(ids) and isinstance(ids[0], str):
        digests = b"".join(hashlib.blake2b(str(one).encode(), digest_size=16).digest() for one in ids)
        return np.frombuffer(digests, "<i8").reshape(-1, 2)
    keys = np.zeros((len(ids), 2), np.int64)
    keys[:, 0] = np.asarray(ids, np.int64)
    return keys


class IdTable:
    """A table that is empty until `add` or `restore`; see `opened` for one that is read alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: np.memmap[Any, Any] | None = None
        self._slots = np.zeros((1, 3), np.int64)
        self._taken = 0  # slots that are not empty

    def _use(self, opened: Any) -> None:
        self._map, self._slots = opened, np.asarray(opened)

    @classmethod
    def opened(cls, path: Path) -> IdTable:
        """Return the table at `path`, to be read alone; RecdistillError where there is none."""
        if not path.exists():
            raise RecdistillError(f"{path}: missing from the store; delete its folder and run again")
        table = cls(path)
        table._use(np.load(path, mmap_mode="r", allow_pickle=False))
        return table

    def find(self, keys: Array) -> Array:
        """Return int32 [n], the index of each key [n, 2], 0 where it is not here."""
        found = np.zeros(len(keys), np.int32)
        left, at = np.arange(len(keys)), self._home(keys)
        while len(left):
            slots = self._slots[at]
            index, wanted = slots[:, 2], keys[left]
            same = (slots[:, 0] == wanted[:, 0]) & (slots[:, 1] == wanted[:, 1]) & (index > 0)
            found[left[same]] = index[same]
            further = ~same & (index != EMPTY)
            left, at = left[further], (at[further] + 1) % len(self._slots)
        return found

    def _home(self, keys: Array) -> Array:
        """Return int64 [n], the slot at which each key is looked for first."""
        mixed = keys.view(np.uint64)[:, 0] * SPREAD ^ keys.view(np.uint64)[:, 1]
        return ((mixed ^ (mixed >> np.uint64(32))) % np.uint64(len(self._slots))).astype(np.int64)

    def add(self, keys: Array, first: int) -> None:
        """Give keys [n, 2] that are not here, each once, the indices `first`, `first` + 1, ..."""
        if self._taken + len(keys) > FILLED * len(self._slots):
            self._grow(len(keys))
        self._put(keys, np.arange(first, first + len(keys)))

    def _put(self, keys: Array, index: Array) -> None:
        left, at = np.arange(len(keys)), self._home(keys)
        while len(left):
            before = self._slots[at, 2]
            free = np.flatnonzero(before <= 0)
            mine = free[np.unique(at[free], return_index=True)[1]]  # of those that want one slot the first has it
            self._slots[at[mine]] = np.c_[keys[left[mine]], index[left[mine]]]
            self._taken += int((before[mine] == EMPTY).sum())
            left, at = np.delete(left, mine), np.delete((at + 1) % len(self._slots), mine)

    def _grow(self, more: int) -> None:
        """Replace the file by one with room for `more` keys, by rename."""
        old, size, name = self._pieces(), FIRST, self.path.with_suffix(".part").name
        kept = sum(int((part[:, 2] > 0).sum()) for part in old)
        while kept + more > FILLED * size / 2:
            size *= 2
        self._use(create_column(self.path.parent, name, (size, 3), "int64"))
        self._taken = 0
        for part in old:
            held = part[part[:, 2] > 0]
            self._put(held[:, :2], held[:, 2])
        os.replace(self.path.with_name(f"{name}.npy"), self.path)

    def _pieces(self) -> list[Array]:
        return [self._slots[at : at + PIECE] for at in range(0, len(self._slots), PIECE)]

    def flush(self) -> None:
        """Let what was added reach the disk, in a file even when it is nothing."""
        if self._map is None:
            self._grow(0)
        if self._map is not None:
            self._map.flush()

    def restore(self, last: int) -> int:
        """Open the file, if there is one, and take back every index above `last`; return how many ids are left."""
        if not self.path.exists():
            return 0
        self._use(np.load(self.path, mmap_mode="r+", allow_pickle=False))
        self._taken = left = 0
        for part in self._pieces():
            index = part[:, 2]
            index[index > last] = GONE
            self._taken += int((index != EMPTY).sum())
            left += int((index > 0).sum())
        return left
