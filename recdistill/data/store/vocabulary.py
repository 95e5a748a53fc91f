"""Ids to small indices: the vocabulary of a whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.store.id_table import IdTable, keys_of
from recdistill.typing import Array

__all__ = ["Vocabulary", "distinct_of", "id_table_of"]

PIECE = 1 << 18  # ids put into a table at a time


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
        """Write the ids in order, as Parquet, and next to them a table of their indices."""
        table = IdTable(_table_path(path))
        for at in range(0, len(self), PIECE):
            table.add(keys_of(self.ids[at : at + PIECE].to_list()), at + 1)
        table.flush()
        self._known.write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Return the vocabulary that `save` wrote."""
        vocabulary = cls()
        vocabulary._known = pl.read_parquet(path, glob=False, hive_partitioning=False)
        return vocabulary


def id_table_of(path: Path) -> IdTable:
    """Return the table that `Vocabulary.save` wrote next to `path`; RecdistillError where there is none."""
    return IdTable.opened(_table_path(path))


def _table_path(path: Path) -> Path:
    return path.with_suffix(".ids.npy")
