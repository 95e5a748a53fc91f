"""The vocabulary of a stream: it goes on from that of the batch phase, and its ids lie in files, not in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from recdistill.data.store.id_table import IdTable, keys_of
from recdistill.data.store.vocabulary import distinct_of, id_table_of
from recdistill.typing import Array

__all__ = ["GrowingVocabulary"]

PIECE = 65_536  # ids read at a time


class GrowingVocabulary:
    """As `Vocabulary`, for chunks that are small against what is known: a chunk costs O(its rows).

    NAME.jsonl in `folder` has the ids in their order, NAME.ids.npy their indices; it can be made again from the former.
    base: what the batch phase's vocabulary of `based` ids was saved as, None without one.
    """

    def __init__(self, folder: Path, name: str, base: Path | None = None, based: int = 0) -> None:
        self._lines, self._base = folder / f"{name}.jsonl", id_table_of(base) if base else None
        self._own = IdTable(folder / f"{name}.ids.npy")
        self._based = self._count = based
        self._fresh: list[object] = []  # since `save`

    def __len__(self) -> int:
        """Return the number of known ids."""
        return self._count

    def encode(self, values: pl.Series, grow: bool) -> Array:
        """Return int32 [n]; ids never met are added when `grow`, else 0. Only distinct values meet the vocabulary."""
        ids, at = distinct_of(values)
        keys = keys_of(ids)
        found = self._base.find(keys) if self._base else np.zeros(len(ids), np.int32)
        if len(rest := np.flatnonzero(found == 0)):
            found[rest] = self._own.find(keys[rest])
        if grow and len(new := np.flatnonzero(found == 0)):
            found[new] = np.arange(self._count + 1, self._count + 1 + len(new))
            self._own.add(keys[new], self._count + 1)
            self._fresh += [ids[place] for place in new]
            self._count += len(new)
        return np.append(found, np.int32(0))[at]  # -1, a null, is the last

    def ids(self, start: int) -> list[object]:
        """Return the ids after the first `start`, which are the base's at least, in order."""
        saved = self._count - len(self._fresh)
        if start >= saved:
            return self._fresh[start - saved :]
        with self._lines.open(encoding="utf-8") as file:
            return [json.loads(line) for line in islice(file, start - self._based, saved - self._based)] + self._fresh

    def save(self) -> int:
        """Let what was met so far reach the disk; return how many bytes of the file of ids it takes."""
        self._lines.parent.mkdir(parents=True, exist_ok=True)
        with self._lines.open("ab") as file:
            file.write("".join(json.dumps(value) + "\n" for value in self._fresh).encode())
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        self._own.flush()
        self._fresh = []
        return size

    def restore(self, count: int, size: int) -> bool:
        """Go back to the first `count` ids, which the first `size` bytes of the file hold; False where they do not.
        What follows was met after the checkpoint, and will be again.
        """
        if count == self._based and not self._lines.exists():
            return True
        if not self._lines.exists() or self._lines.stat().st_size < size:
            return False
        os.truncate(self._lines, size)
        self._count = count
        if self._own.restore(count) == count - self._based:
            return True
        self._own, made = IdTable(self._own.path), self._based
        for ids in self._read():
            self._own.add(keys_of(ids), made + 1)
            made += len(ids)
        return made == count

    def _read(self) -> Iterator[list[object]]:
        with self._lines.open(encoding="utf-8") as file:
            while lines := list(islice(file, PIECE)):
                yield [json.loads(line) for line in lines]
