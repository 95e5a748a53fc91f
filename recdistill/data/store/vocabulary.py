"""Ids to small indices: a vocabulary that grows with the log, and stable hashes where no vocabulary is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.typing import Array

__all__ = ["GrowingVocabulary", "Vocabulary", "collisions", "distinct_of", "stable_hash64"]


def stable_hash64(values: pl.Series) -> Array:
    """Return int64 hashes that are the same on every machine and version: FNV-1a of UTF-8 bytes, then splitmix64.

    63 bits, never negative. An integer hashes like its digits, a missing value like the empty string. Distinct values
    meet the byte loop once each; time and memory are O(their bytes), however long the longest is.
    """
    distinct = values.unique(maintain_order=True)
    encoded = [text.encode() for text in distinct.cast(pl.String).fill_null("").to_list()]
    length = np.array([len(text) for text in encoded], np.int64)
    order = np.argsort(-length, kind="stable")  # longest first: those with bytes left are always the first ones
    start, left = (np.cumsum(length) - length)[order], -length[order]
    flat = np.frombuffer(b"".join(encoded), np.uint8)
    state = np.full(len(encoded), 0xCBF29CE484222325, np.uint64)
    for at in range(length.max(initial=0)):
        busy = np.searchsorted(left, -at)
        state[:busy] = (state[:busy] ^ flat[start[:busy] + at]) * np.uint64(0x100000001B3)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    hashed = np.empty(len(encoded), np.int64)
    hashed[order] = (state ^ (state >> np.uint64(31))) >> np.uint64(1)
    return np.asarray(values.replace_strict(distinct, pl.Series(hashed), return_dtype=pl.Int64), np.int64)


def distinct_of(values: pl.Series) -> tuple[list[Any], Array]:
    """Return (the distinct values in the order of their first, int64 [n] the place of each among them, -1 for null)."""
    encoded = values.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)


def collisions(values: pl.Series) -> list[list[object]]:
    """Return the groups of distinct values that share a hash; empty when there are none."""
    distinct = values.unique(maintain_order=True)
    frame = pl.DataFrame({"value": distinct, "hash": stable_hash64(distinct)})
    groups = frame.group_by("hash", maintain_order=True).agg("value").filter(pl.col("value").list.len() > 1)
    return groups["value"].to_list()


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

    def save(self, path: Path) -> None:
        """Write the ids in order, as Parquet."""
        self._known.write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Return the vocabulary that `save` wrote."""
        vocabulary = cls()
        vocabulary._known = pl.read_parquet(path)
        return vocabulary


class GrowingVocabulary:
    """As `Vocabulary`, for chunks that are small beside what is known: a chunk costs O(its rows), an id
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
        saved = pl.read_parquet(path)
        return cls(saved["id"].to_list() if saved.width else ())
