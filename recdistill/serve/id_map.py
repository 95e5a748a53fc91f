"""Ids to places in a table, memory-mapped: any number of ids costs a process no memory of its own, but for the texts
that were asked for last.

The ids' 64-bit hashes stand in ascending order with the place of each; of text, the text itself too, so that an id that
was never seen is not taken for one whose hash it shares.

    NAME.hash.npy    uint64 [N], ascending
    NAME.place.npy   int32 [N], the index, from 1, of the id with that hash
    NAME.key.npy     int64 [N + 1], where the UTF-8 text of each begins in NAME.text.npy, uint8. Whole numbers have
                     neither: their hash is one to one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from recdistill.data.store.memmap import open_column
from recdistill.typing import Array

__all__ = ["IdMap", "write_id_map"]

REMEMBERED, SHORT = 65_536, 64  # texts whose places are remembered, and of how many characters at most
SIGN = np.uint64(1 << 63)
PIECE = 1 << 20  # entries looked at together


def write_id_map(folder: Path, name: str, ids: Sequence[int | str]) -> None:
    """Write the map of `ids`, whose indices are 1, 2, ...; all whole numbers of 64 bits, or all text."""
    text = bool(ids) and isinstance(ids[0], str)
    hashes = _hashes(ids)
    order = np.argsort(hashes, kind="stable")
    np.save(folder / f"{name}.hash.npy", hashes[order])
    np.save(folder / f"{name}.place.npy", (order + 1).astype(np.int32))
    if text:
        encoded = [str(ids[at]).encode() for at in order]
        np.save(folder / f"{name}.key.npy", np.cumsum([0, *map(len, encoded)], dtype=np.int64))
        np.save(folder / f"{name}.text.npy", np.frombuffer(b"".join(encoded), np.uint8))


def _hashes(ids: Sequence[int | str] | Array) -> Array:
    if len(ids) and isinstance(ids[0], str):
        made = b"".join(hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids)
        return np.frombuffer(made, "<u8").astype(np.uint64)
    return np.asarray(ids, np.int64).view(np.uint64) ^ SIGN


class IdMap:
    """A written map, opened."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._hash, self._place = (np.asarray(open_column(folder, f"{name}.{part}")) for part in ("hash", "place"))
        self.text = (folder / f"{name}.text.npy").exists()
        if self.text:
            self._key, self._bytes = (np.asarray(open_column(folder, f"{name}.{part}")) for part in ("key", "text"))
            self._remembered = lru_cache(REMEMBERED)(self._searched)

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self._hash)

    def ids(self, at: Array) -> list[int | str]:
        """Return the ids that stand at `at`, each from 0 to the number of ids less 1, in an order of no meaning."""
        if not self.text:
            return (self._hash[at] ^ SIGN).view(np.int64).tolist()  # type: ignore[no-any-return]
        return [self._bytes[self._key[k] : self._key[k + 1]].tobytes().decode() for k in at]

    def fault(self) -> str | None:
        """Return the first file that is not as `write_id_map` writes it, and what was expected; None for a whole map.

        Reads it once, a piece at a time.
        """
        n = len(self)
        if self._hash.dtype != np.uint64 or self._hash.ndim != 1 or not _ascends(self._hash):
            return f"{self.name}.hash.npy: uint64, ascending, was expected"
        if self._place.dtype != np.int32 or self._place.shape != (n,) or not _within(self._place, 1, n):
            return f"{self.name}.place.npy: int32 [{n}] from 1 to {n} was expected"
        if not self.text:
            return None
        if self._bytes.dtype != np.uint8 or self._bytes.ndim != 1:
            return f"{self.name}.text.npy: uint8 was expected"
        if self._key.dtype != np.int64 or self._key.shape != (n + 1,) or not _ascends(self._key):
            return f"{self.name}.key.npy: int64 [{n + 1}], ascending, was expected"
        if self._key[0] != 0 or self._key[-1] != len(self._bytes):
            return f"{self.name}.key.npy: from 0 to {len(self._bytes)} was expected"
        return None

    def places(self, ids: Sequence[int | str] | Array) -> Array:
        """Return int64 [n], the index of each id, 0 for one that was never seen."""
        if not len(ids) or not len(self):
            return np.zeros(len(ids), np.int64)
        if self.text:
            return np.fromiter(map(self.place, ids), np.int64, len(ids))
        hashes = _hashes(ids)
        at = self._hash.searchsorted(hashes)
        found = self._place.take(at, mode="clip").astype(np.int64)
        found *= self._hash.take(at, mode="clip") == hashes
        return found

    def place(self, text: str) -> int:
        """Return the index of a text, 0 for one that was never seen."""
        if not self.text:
            return 0
        return self._remembered(text) if len(text) <= SHORT else self._searched(text)

    def _searched(self, text: str) -> int:
        wanted, encoded = _hashes([text])[0], text.encode()
        at = int(np.searchsorted(self._hash, wanted))
        while at < len(self) and self._hash[at] == wanted:
            if self._bytes[self._key[at] : self._key[at + 1]].tobytes() == encoded:
                return int(self._place[at])
            at += 1
        return 0


def _pieces(values: Array) -> Iterator[Array]:
    """Yield the values, PIECE at a time, each piece with the last of the one before."""
    return (values[max(at - 1, 0) : at + PIECE] for at in range(0, len(values), PIECE))


def _ascends(values: Array) -> bool:
    return all(bool((one[1:] >= one[:-1]).all()) for one in _pieces(values))


def _within(values: Array, low: int, high: int) -> bool:
    return all(bool(((one >= low) & (one <= high)).all()) for one in _pieces(values))
