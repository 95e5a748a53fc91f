"""One column of a user's table on its way into ours: how its values are made, and which of them are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from recdistill.data.readers.files import ROW
from recdistill.errors import UserError
from recdistill.tables.validation import Origin

__all__ = ["TEXT", "Column", "Counts", "Kind", "Kinds", "convert", "kinds_of", "missing_of", "names_of", "text_of"]

NAN = ["NaN", "nan", "NAN"]
TEXT = (pl.String, pl.Categorical, pl.Enum)
MORE = (pl.Boolean, pl.Date, pl.Datetime, pl.Time, pl.Null)
Counts = Counter[str]  # what was found, in the words of a note -> how often


@dataclass(frozen=True)
class Kind:
    """stored: a column's type in the chunks; meant: what its values are, which a text file does not say."""

    stored: pl.DataType
    meant: pl.DataType

    @property
    def text(self) -> bool:
        """Whether the chunks hold text."""
        return isinstance(self.stored, TEXT)

    @property
    def single(self) -> bool:
        """Whether it is of a type that has one plain value a row: no list, struct, bytes, duration or object."""
        return self.stored.is_numeric() or isinstance(self.stored, TEXT + MORE)


Kinds = Mapping[str, Kind]


@dataclass(frozen=True)
class Column:
    """source: the user's column; value: makes ours of it, null where it is missing or cannot be.

    problem: of a value that cannot be; missing: whether a value that is not null stands for nothing (default: an empty
    text); counted: what to note of the column -> how often it holds in a chunk.
    """

    source: str
    value: pl.Expr
    problem: str
    missing: pl.Expr | None = None
    counted: dict[str, pl.Expr] = field(default_factory=dict)


def kinds_of(schema: Mapping[str, pl.DataType]) -> dict[str, Kind]:
    """Return the kinds of a table whose types say what they hold."""
    return {name: Kind(kind, kind) for name, kind in schema.items()}


def missing_of(value: pl.Expr, kind: Kind) -> pl.Expr | None:
    """Return whether values that are not null are NaN, None where they cannot be."""
    if kind.text and kind.meant.is_numeric():
        return value.cast(pl.String).is_in(NAN)
    return value.is_nan() if kind.stored.is_float() else None


def text_of(value: pl.Expr, kind: Kind) -> pl.Expr:
    """Return values of a single kind as text, as they were written; null where empty. 12.0 is 12 from any file."""
    if kind.stored.is_float():
        return pl.when(value.is_not_nan()).then(_of_float(value))
    text = value.cast(pl.String)
    if isinstance(kind.stored, pl.Decimal):
        text = text.str.replace(r"(\.\d*?)0+$", "$1").str.strip_suffix(".")
    elif kind.text and kind.meant.is_numeric():
        text = text.str.replace(r"^(-?\d+)\.0+$", "$1").replace(NAN, None)
    return pl.when(text != "").then(text) if kind.text else text


def _of_float(value: pl.Expr) -> pl.Expr:
    whole = value.cast(pl.Int64, strict=False)
    return pl.when(value == whole.cast(pl.Float64)).then(whole.cast(pl.String)).otherwise(value.cast(pl.String))


def names_of(columns: dict[str, Column]) -> dict[str, str]:
    """Return the user's name of every column that is made."""
    return {name: column.source for name, column in columns.items()}


def convert(
    chunk: pl.DataFrame, columns: dict[str, Column], path: Path, counts: Counts | None = None
) -> tuple[pl.DataFrame, Origin]:
    """Return `columns` made of a raw chunk, and where its rows came from; adds to `counts` what is to be noted.

    UserError at the first value that does not fit.
    """
    origin, counts = Origin(str(path), chunk[ROW], names_of(columns)), Counts() if counts is None else counts
    try:
        out = chunk.select(**{name: column.value for name, column in columns.items()})
    except PolarsError as error:
        raise UserError(f"{path}: a column cannot be read as asked: {str(error).splitlines()[0]}") from None
    for name, column in columns.items():
        lost = _lost(chunk, out[name], column)
        if len(lost):
            raise origin.refuse(int(lost[0]), name, f"{column.problem}; got {_shown(chunk[column.source][lost[0]])}")
        for what, times in column.counted.items():
            if found := int(chunk.select(times.sum()).item() or 0):
                counts[what] += found
    return out, origin


def _shown(value: object) -> str:
    """Return a value in one line, of a list no more than its start."""
    return repr(value.to_list())[:60] if isinstance(value, pl.Series) else repr(value)


def _lost(chunk: pl.DataFrame, made: pl.Series, column: Column) -> pl.Series:
    """Return the places whose value could not be made."""
    lost = made.is_null() & chunk[column.source].is_not_null()
    if not lost.any():
        return pl.Series([], dtype=pl.UInt32)
    text = isinstance(chunk.schema[column.source], TEXT)
    missing = pl.col(column.source).cast(pl.String) == "" if text else pl.lit(False)
    missing = missing if column.missing is None else missing | column.missing.fill_null(False)
    return (lost & ~chunk.select(missing.alias("m").fill_null(False)).to_series()).arg_true()
