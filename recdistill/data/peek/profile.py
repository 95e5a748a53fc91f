"""What a column of a sample holds: its values as text, as ingest would write them, and as numbers where they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from recdistill.data.readers.columns import Column, Kind, convert, missing_of, text_of
from recdistill.data.readers.files import ROW
from recdistill.data.readers.values import number_of
from recdistill.errors import UserError

__all__ = ["Profile", "problem_of", "profiles_of", "share"]


@dataclass(frozen=True)
class Profile:
    """values: the column as it was read; kind: as ingest takes it."""

    name: str
    kind: Kind
    values: pl.Series

    @cached_property
    def text(self) -> pl.Series:
        """The values as text, null where they are missing; only where a row has one value."""
        frame = self.values.to_frame()
        missing = missing_of(pl.col(self.name), self.kind)
        text = text_of(pl.col(self.name), self.kind)
        return frame.select(text if missing is None else pl.when(~missing.fill_null(False)).then(text)).to_series()

    @cached_property
    def number(self) -> pl.Series | None:
        """The values as float64, null where they are missing or infinite; None unless every value is a number."""
        number = self.values.to_frame().select(number_of(self.name, self.kind).fill_nan(None)).to_series()
        if not self.text.is_not_null().any() or not (number.is_not_null() | self.text.is_null()).all():
            return None
        return number.set(number.is_infinite(), None)

    @property
    def single(self) -> bool:
        """Whether a row has one plain value."""
        return self.kind.single

    @cached_property
    def missing(self) -> float:
        """The share of rows without a value."""
        none = self.text.is_null() if self.single else self.values.is_null()
        return share(none)

    @cached_property
    def distinct(self) -> int:
        """How many different values there are, of what is not missing."""
        return self.text.drop_nulls().n_unique()

    @cached_property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        found = None if self.number is None else self.number.drop_nulls()
        return found is not None and bool((found == found.floor()).all())

    @property
    def boolean(self) -> bool:
        """Whether its type is true or false."""
        return isinstance(self.kind.meant, pl.Boolean)

    @property
    def dated(self) -> bool:
        """Whether its type is a date or a time."""
        return isinstance(self.kind.stored, pl.Date | pl.Datetime)


def share(found: pl.Series) -> float:
    """Return which share of bool values is true, null ones not among them; 0 of none."""
    return len(found.filter(found)) / max(len(found), 1)


def profiles_of(rows: pl.DataFrame, kinds: dict[str, Kind]) -> dict[str, Profile]:
    """Return a profile of every column."""
    return {name: Profile(name, kind, rows[name]) for name, kind in kinds.items()}


def problem_of(rows: pl.DataFrame, column: Column) -> str | None:
    """Return what the reader would refuse about a column of these rows, None where it takes every value."""
    try:
        convert(rows.with_row_index(ROW), {"x": column}, Path("sample"))
    except UserError as error:
        return str(error).partition(": ")[2].partition("': ")[2] or str(error)
    return None
