"""Pre-trained vectors of items and users as memory-mapped arrays that nobody changes, read by any number of processes.

Of each side (item, user) one array: row 0 for ids without any vector, then a row per id, in the order of the tables;
the columns are those of each table, and after them a flag, 1 where the id has no vector in that table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from recdistill.data.readers.vector_tables import VectorTable
from recdistill.data.store.growing_vocabulary import GrowingVocabulary
from recdistill.data.store.id_table import keys_of
from recdistill.data.store.memmap import create_column, open_column
from recdistill.data.store.vocabulary import Vocabulary, id_table_of
from recdistill.storage.location import Location
from recdistill.storage.trees import brought, send
from recdistill.tables.schema import VECTOR_SIDES, EventSchema
from recdistill.typing import Array

__all__ = [
    "VECTORS",
    "FrozenVectors",
    "VectorRows",
    "added_ids",
    "missing_vectors",
    "open_vectors",
    "rows_of_ids",
    "write_vectors",
]

VECTORS = "vectors"  # folder, next to the events
CHUNK = 65_536


def write_vectors(folder: Location, tables: Sequence[VectorTable]) -> None:
    """Write the tables' vectors into `folder`; memory O(ids + chunk). UserError for anything wrong with one."""
    local = folder if isinstance(folder, Path) else folder.local
    for side in dict.fromkeys(table.config.of for table in tables):
        _write_side(local, side, [table for table in tables if table.config.of == side])
    if tables and not isinstance(folder, Path):
        send(local, folder)


def _write_side(folder: Path, side: str, tables: list[VectorTable]) -> None:
    ids = Vocabulary()
    for table in tables:
        ids.encode(table.ids, grow=True)
    values = create_column(folder, side, (len(ids) + 1, sum(table.width + 1 for table in tables)), "float32")
    start = 0
    for table in tables:
        flag = start + table.width
        for at in range(0, len(values), CHUNK):
            values[at : at + CHUNK, flag] = 1
        for keys, vectors in table.chunks():
            rows = ids.encode(keys, grow=False)
            values[rows, start:flag], values[rows, flag] = vectors, 0
        start = flag + 1
    ids.save(folder / f"{side}.parquet")


class FrozenVectors:
    """One side's array: values float32 [1 + V, W], read-only."""

    def __init__(self, folder: Path, side: str) -> None:
        self.folder, self.values = folder, open_column(folder, side)
        self.path = folder / f"{side}.parquet"

    @cached_property
    def _ids(self) -> Vocabulary:
        return Vocabulary.load(self.path)

    @property
    def ids(self) -> pl.Series:
        """Return the ids that have a vector, in the order of their rows, the first of which is 1."""
        return self._ids.ids

    def rows_of(self, ids: pl.Series) -> Array:
        """Return int32 [n], the row of each id, 0 for one without a vector."""
        return self._ids.encode(ids, grow=False)


def open_vectors(folder: Location, schema: EventSchema) -> dict[str, FrozenVectors]:
    """Return the vectors that lie in `folder`, by side; none where the log has none."""
    sides = [side for side, _ in schema.vector_widths if side in VECTOR_SIDES]
    local = brought(folder) if sides else Path()
    return {side: FrozenVectors(local, side) for side in sides}


def added_ids(known: FrozenVectors, now: FrozenVectors) -> int | None:
    """Return how many ids have a vector now that had none, None where one of those known has another now, or none."""
    rows = now.rows_of(known.ids)
    for at in range(0, len(rows), CHUNK):
        if not np.array_equal(now.values[rows[at : at + CHUNK]], known.values[at + 1 : at + CHUNK + 1]):
            return None
    return len(now.values) - len(known.values)


def rows_of_ids(folder: Path, name: str, vectors: FrozenVectors, ids: Vocabulary) -> None:
    """Write the column int32 [1 + ids] of the row of every index's vector; index 0, the padding, has none."""
    column = create_column(folder, name, (len(ids) + 1,), "int32")
    if len(ids):
        column[1:] = vectors.rows_of(ids.ids)


class VectorRows:
    """From the indices of a vocabulary that grows with a stream to rows of an array of vectors.

    known: int32, the rows of the first indices.
    """

    def __init__(self, vectors: FrozenVectors, known: Array) -> None:
        self._ids, self._rows, self._known = id_table_of(vectors.path), np.array(known), len(known)

    def of(self, index: Array, vocabulary: GrowingVocabulary) -> Array:
        """Return int32 [n], the row of each index of `vocabulary`."""
        if len(index) and int(index.max()) >= self._known:
            self._grow(vocabulary.ids(self._known - 1))
        return np.asarray(self._rows[index])

    def _grow(self, new: list[object]) -> None:
        """Take in the ids that follow those known; room is doubled, so that a stream costs O(its ids)."""
        end = self._known + len(new)
        if end > len(self._rows):
            self._rows = np.concatenate((self._rows, np.zeros(end, np.int32)))
        self._rows[self._known : end] = self._ids.find(keys_of(new))
        self._known = end


def missing_vectors(
    vectors: Mapping[str, FrozenVectors], index: Mapping[str, Array], own: Array, schema: EventSchema
) -> Iterator[str]:
    """Yield a line per vector that ids or rows of the log lack. index: by side, the row of each id of its vocabulary,
    the first of which is no id; own: [N, V], the vectors that rows brought themselves.
    """
    for side, found in vectors.items():
        widths = {name: width for name, (of, width) in schema.vectors.items() if of == side}
        yield from _lacking(widths, found.values, index[side][1:], f"{side}s")
    widths = {name: width for name, (_, width, _) in schema.row_vectors.items()}
    yield from _lacking(widths, own, range(len(own)), "rows")


def _lacking(widths: Mapping[str, int], values: Array, rows: Array | range, what: str) -> Iterator[str]:
    """Yield a line per vector that some of the `rows` of `values` lack by their flags."""
    flag = -1
    for name, width in widths.items():
        flag += width + 1
        parts = (values[rows[at : at + CHUNK], flag] for at in range(0, len(rows), CHUNK))
        if without := sum(int((part > 0).sum()) for part in parts):
            yield f"vectors.{name}: {without:,} of {len(rows):,} {what} have no vector"
