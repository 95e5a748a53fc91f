"""Ids to small indices: a vocabulary for whole logs, and one that grows with a stream."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.typing import Array

__all__ = ["GrowingVocabulary", "Vocabulary", "distinct_of"]


def distinct_of(values: pl.Series) -> tuple[list[Any], Array]:
    """Return (the distinct values in the order of their first, int64 [n] the place of each among them, -1 for null)."""
    encoded = values.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)


class Vocabulary:
    """Indices 1, 2, ... in the order in which ids were first met; 0 stands for padding and the unknown."""

    def __init__(self) -> None:
        self._known = pl.DataFrame()

    def __len__(self) -> int:
        """Return the number of known ids."""
        return len(self._known)

    def encode(self, values: pl.Series, grow: bool) -> Array:
        """Return int32 [n]; ids never met are added when `grow`, else 0. Only distinct values meet the vocabulary."""
        distinct = pl.DataFrame({"id": values.unique(maintain_order=True)}).drop_nulls()
        if not len(self._known):
            self._known = pl.DataFrame({"id": distinct["id"].head(0), "index": pl.Series([], dtype=pl.Int32)})
        if grow:
            fresh = distinct.join(self._known, on="id", how="anti", maintain_order="left")
            index = pl.int_range(len(self._known) + 1, len(self._known) + 1 + len(fresh), dtype=pl.Int32, eager=True)
            self._known = pl.concat([self._known, fresh.with_columns(index=index)])
        found = values.to_frame("id").join(self._known, on="id", how="left", maintain_order="left")
        return np.asarray(found["index"].fill_null(0).to_numpy())

    @property
    def ids(self) -> pl.Series:
        """Return the known ids in order, of one at least."""
        return self._known["id"]

    def save(self, path: Path) -> None:
        """Write the ids in order, as Parquet."""
        self._known.write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Return the vocabulary that `save` wrote."""
        vocabulary = cls()
        vocabulary._known = pl.read_parquet(path, glob=False, hive_partitioning=False)
        return vocabulary


class GrowingVocabulary:
    """As `Vocabulary`, for chunks that are small against what is known: a chunk costs O(its rows), an id
    some 100 bytes.
    """

    def __init__(self, known: Iterable[object] = ()) -> None:
        self._known = {value: at for at, value in enumerate(known, start=1)}
        self._order: list[object] = list(self._known)

    def __len__(self) -> int:
        """Return the number of known ids."""
        return len(self._known)

    def encode(self, values: pl.Series, grow: bool) -> Array:
        """Return int32 [n]; ids never met are added when `grow`, else 0. Only distinct values meet the vocabulary."""
        ids, at = distinct_of(values)
        known = self._known
        found = [known.get(value, 0) for value in ids]
        for place, value in enumerate(ids) if grow and not all(found) else ():
            if not found[place]:
                found[place] = known[value] = len(known) + 1
                self._order.append(value)
        return np.array([*found, 0], np.int32)[at]

    def ids(self, start: int) -> list[object]:
        """Return the ids after the first `start`, in order."""
        return self._order[start:]

    @classmethod
    def load(cls, path: Path) -> GrowingVocabulary:
        """Return the vocabulary that `Vocabulary.save` wrote."""
        saved = pl.read_parquet(path, glob=False, hive_partitioning=False)
        return cls(saved["id"].to_list() if saved.width else ())
