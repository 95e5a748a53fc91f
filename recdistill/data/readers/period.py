"""The days that a log is published for: rows of other times are left out and counted."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recdistill.data.readers.columns import Counts

__all__ = ["Period"]


@dataclass(frozen=True)
class Period:
    """column: of seconds since 1970; first, end: its days, end excluded; note: what to count what is left out as."""

    column: str
    first: int
    end: int
    note: str

    @property
    def holds(self) -> pl.Expr:
        """Whether a row is of these days; what is no number stays, to be refused."""
        number = pl.col(self.column).cast(pl.Int64, strict=False)
        return number.is_between(self.first, self.end, closed="left").fill_null(True)

    def kept(self, chunk: pl.DataFrame, counts: Counts) -> pl.DataFrame:
        """Return the rows of these days, and count the others."""
        kept = chunk.filter(self.holds)
        if len(kept) < len(chunk):
            counts[self.note] += len(chunk) - len(kept)
        return kept
