"""Sample ids, each once in a log, and requests that are named by text: numbers in the order of their arrival."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from recdistill.data.store.id_set import IdSet
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.tables.validation import Origin, check_unique
from recdistill.typing import Array

__all__ = ["RequestNumbers", "UniqueIds", "UniqueKeys"]

ONCE = "a sample id may stand once"


@dataclass
class UniqueIds:
    """Refuses a sample id of an earlier chunk.

    While ids rise nothing is remembered; when they first do not, those before are read again and then kept, 8 bytes
    each. before: gives the first ids of the log, None where its rows do not come in the order of the file.
    """

    before: Callable[[int], Iterator[Array]] | None
    top: int = np.iinfo(np.int64).min
    done: int = 0
    seen: IdSet | None = field(default=None)

    def rises(self, low: int, high: int, count: int) -> bool:
        """Return whether so many ids, which rise from `low` to `high`, follow all those before, which rose too; then
        there is nothing to check.
        """
        if self.before is None or self.seen is not None or low <= self.top:
            return False
        self.top, self.done = high, self.done + count
        return True

    def check(self, rows: pl.DataFrame, origin: Origin) -> None:
        """Raise UserError for an id that stood before; the rows' own are each once."""
        ids = rows["sample_id"].to_numpy()
        if len(ids) and (np.diff(ids) > 0).all() and self.rises(int(ids[0]), int(ids[-1]), len(ids)):
            return
        if self.seen is None:
            self.seen = IdSet()
            for part in self.before(self.done) if self.before is not None and self.done else ():
                self.seen.add(part)
        double = np.flatnonzero(self.seen.holds(ids))
        if len(double):
            raise origin.refuse(int(double[0]), "sample_id", f"{ONCE}; {ids[double[0]]} stood before")
        self.seen.add(ids)


@dataclass
class UniqueKeys:
    """Refuses a sample id of text that stands twice: 8 bytes each are kept, and a hash met twice is looked up in full.

    count: gives how often each of a few texts stands in the whole file.
    """

    count: Callable[[pl.Series], pl.DataFrame]
    seen: IdSet = field(default_factory=IdSet)

    def check(self, rows: pl.DataFrame, origin: Origin) -> None:
        """Raise UserError for a key that is empty, stands twice in these rows, or stood before."""
        empty = rows["sample_key"].is_null().arg_true()
        if len(empty):
            raise origin.refuse(int(empty[0]), "sample_key", "must not be empty")
        check_unique(rows, origin, "sample_key")
        hashes = self.hashes(rows["sample_key"])
        alike = rows["sample_key"].filter(pl.Series(self.seen.holds(hashes)))
        if len(alike):
            twice = self.count(alike).filter(pl.col("len") > 1)["sample_key"]
            found = rows["sample_key"].is_in(twice.implode()).arg_true()
            if len(found):
                raise origin.refuse(
                    int(found[0]), "sample_key", f"{ONCE}; {rows['sample_key'][found[0]]!r} stood before"
                )
        self.seen.add(hashes)

    @staticmethod
    def hashes(keys: pl.Series) -> Array:
        """Return uint64 [n]; two keys may share one."""
        return keys.hash().to_numpy()


class RequestNumbers:
    """Numbers from 1 for requests named by text; memory O(requests)."""

    def __init__(self) -> None:
        self._met = Vocabulary()

    def numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with whole numbers as `request_id`, null where it is empty."""
        if "request_id" not in rows.columns or rows.schema["request_id"] != pl.String:
            return rows
        codes = pl.Series("request_id", self._met.encode(rows["request_id"], grow=True)).cast(pl.Int64)
        return rows.with_columns(pl.when(codes > 0).then(codes).alias("request_id"))
