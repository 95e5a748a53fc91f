"""Ids and categories are what was written: whole numbers, or text.

A column is of whole numbers where its type or, in a text file, its first rows say so: those written as Python writes
them (12, -7; of floats 12.0). Everything else, 007, +5, 0x1F, a UUID, a number beyond 64 bits, is text and stays it.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.config.data import ColumnsConfig, SideConfig
from recdistill.data.readers.columns import NAN, Column, Kind, missing_of, text_of
from recdistill.data.readers.files import INFER, RawTable, reading
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import POLARS_TYPES

__all__ = ["category_type", "check_dtypes", "id_column", "id_names", "id_type", "is_text", "written_kinds"]

WHOLE = r"^(0|-?[1-9]\d*)(\.0+)?$"
EXACT = 2**53  # floats from here on do not tell neighbours apart
INT64 = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.Boolean)  # what int64 holds
ROLES = ("user", "item", "sample_id", "request")


def id_type(kind: Kind) -> str:
    """Return the type of the table's column for such ids: int64 or string."""
    return "int64" if kind.meant in INT64 or kind.meant.is_float() else "string"


def category_type(kind: Kind) -> str:
    """Return the type of the table's column for such categories; numbers with fractions are text."""
    return "int64" if kind.meant in INT64 else "string"


def is_text(columns: ColumnsConfig | SideConfig, *names: str) -> bool:
    """Return whether `dtypes` says so of a column, by its name or by the key that names it."""
    return any(columns.dtypes.get(name) == "text" for name in names)


def id_names(columns: ColumnsConfig) -> list[str]:
    """Return the user's columns that hold ids and categories."""
    ids = (columns.user, columns.item, columns.sample_id, columns.request)
    return [*filter(None, ids), *columns.categorical]


def check_dtypes(columns: ColumnsConfig, path: Path) -> None:
    """Raise UserError for a name under `dtypes` that is no key of an id, and no column of ids or categories."""
    known = {*ROLES, *id_names(columns)}
    for name in columns.dtypes:
        if name not in known:
            raise UserError(
                f"{path}: data.columns.dtypes: no id or category '{name}'{did_you_mean(name, sorted(known))}"
            )


def written_kinds(source: RawTable, kinds: dict[str, Kind]) -> dict[str, Kind]:
    """Return the kinds of ids: of a text file, whole numbers only where the first rows are written as such."""
    asked = [name for name, kind in kinds.items() if kind.text and kind.meant.is_numeric() and name in source.kinds]
    if not asked:
        return kinds
    with reading(source.path):
        heads = source.frame.select(pl.col(asked).cast(pl.String)).head(INFER).collect()
    return kinds | {name: _written_kind(heads[name].drop_nulls(), kinds[name]) for name in asked}


def _written_kind(head: pl.Series, kind: Kind) -> Kind:
    head = head.filter((head != "") & ~head.is_in(NAN))
    head = head.str.replace(r"\.0+$", "") if kind.meant.is_float() else head
    if head.str.contains(WHOLE).all() and not head.cast(pl.Int64, strict=False).has_nulls():
        return Kind(kind.stored, pl.Int64())
    return kind if kind.meant.is_float() else Kind(kind.stored, pl.String())


def id_column(column: str, kind: Kind, wanted: str, key: str, least: int | None = None) -> Column:
    """Return the column that makes ids or categories of type `wanted`, int64 or string; an id is at least `least`.

    key: of `dtypes`, for what does not fit.
    """
    value = pl.col(column)
    missing = missing_of(value, kind)
    if wanted == "string":
        return Column(column, text_of(value, kind), "neither text nor a number", missing)
    whole = _whole(value, kind)
    what = "a whole number" if least is None else f"a whole number from {least} on"
    whole = whole if least is None else pl.when(whole >= least).then(whole)
    problem = f"not {what}; where they are text, or begin with zeros, set data.columns.dtypes: {{{key}: text}}"
    return Column(column, whole, problem, missing)


def _whole(value: pl.Expr, kind: Kind) -> pl.Expr:
    """Return int64, null for what is none or not the only way to write it."""
    if kind.stored.is_float():
        return pl.when((value == value.floor()) & (value.abs() < EXACT)).then(value.cast(pl.Int64, strict=False))
    if isinstance(kind.stored, pl.Decimal):
        return pl.when(value == value.floor()).then(value.cast(pl.Int64, strict=False))
    if not kind.text:
        fits = kind.stored.is_integer() or isinstance(kind.stored, pl.Boolean | pl.Null)
        return value.cast(pl.Int64, strict=False) if fits else pl.lit(None, POLARS_TYPES["int64"])
    text = value.cast(pl.String)
    if isinstance(kind.meant, pl.Boolean):
        return text.str.to_lowercase().replace_strict({"true": 1, "false": 0}, default=None, return_dtype=pl.Int64)
    digits = text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    return pl.when(text.str.contains(WHOLE)).then(digits)
