"""What vectors are made of: lists of finite numbers, all of one length, and one number that scales them.

The first vectors of a table or log decide both, once and for all.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recdistill.data.readers.columns import Kinds
from recdistill.data.readers.files import RawTable, reading
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.validation import Origin
from recdistill.typing import Array

__all__ = ["entries_of", "first_vectors", "scale_of", "stored_kind"]

FIRST = 1000  # vectors that show the length and the scale


def stored_kind(source: RawTable, kinds: Kinds, column: str, key: str) -> pl.DataType:
    """Return the type of a column; UserError, which names `key`, for one that is not there."""
    if column not in kinds:
        raise UserError(f"{source.path}: no column '{column}' ({key}){did_you_mean(column, kinds)}")
    return kinds[column].stored


def first_vectors(source: RawTable, kinds: Kinds, column: str, key: str) -> Array:
    """Return the first vectors of a column, float64 [n, length of the first].

    UserError, which names `key`, for a column that is not there or holds none.
    """
    kind, where = stored_kind(source, kinds, column, key), f"{source.path}: column '{column}' ({key})"
    inner = getattr(kind, "inner", None)
    if inner is None or not inner.is_numeric():
        raise UserError(f"{where} holds {kind}, not lists of numbers")
    with reading(source.path):
        found = _as_lists(source.frame.select(column).drop_nulls().head(FIRST).collect().to_series())
    if not len(found) or not len(found[0]):
        raise UserError(f"{where} holds no vector")
    width = len(found[0])
    alike = found.filter(found.list.len() == width)  # others are refused with their rows, later
    return np.array(alike.explode().cast(pl.Float64).to_numpy()).reshape(-1, width)


def scale_of(vectors: Array) -> float:
    """Return the number by which entries [n, width] get a mean square of 1."""
    finite = vectors[np.isfinite(vectors)]
    mean = float(np.mean(np.square(finite))) if len(finite) else 0.0
    return float(mean**-0.5) if mean > 0 else 1.0


def _as_lists(vectors: pl.Series) -> pl.Series:
    """Return lists, of arrays too."""
    return vectors.arr.to_list() if isinstance(vectors.dtype, pl.Array) else vectors


def entries_of(vectors: pl.Series, width: int, scale: float, origin: Origin, column: str) -> Array:
    """Return float32 [n, width] of vectors without nulls, scaled; UserError for one that is not of `width` finite
    numbers.
    """
    lists = _as_lists(vectors)
    odd = (lists.list.len() != width).arg_true()
    if len(odd):
        found = len(lists[odd[0]])
        raise origin.refuse(int(odd[0]), column, f"a vector of {found} entries, where the others have {width}")
    entries = lists.explode().cast(pl.Float64).fill_null(float("nan")).to_numpy() if len(lists) else np.zeros(0)
    made = np.array(entries * scale, np.float32).reshape(-1, width)
    wrong = np.flatnonzero(~np.isfinite(made).all(1))
    if len(wrong):
        raise origin.refuse(int(wrong[0]), column, "a vector with an entry that is missing, NaN or infinite")
    return made
