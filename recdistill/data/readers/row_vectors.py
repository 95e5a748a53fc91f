"""Vectors that a log's own rows hold, a list of numbers each: checked as they are read, scaled where models read them.

Length and scale are those of the log's first vectors (see `vector_values`), and stand in the schema from then on.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from recdistill.config.data import VectorConfig
from recdistill.data.readers.columns import Column, Kinds
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.vector_values import first_vectors, scale_of, stored_kind
from recdistill.tables.schema import EventSchema, vector_column

__all__ = ["row_vector_columns", "row_vectors_of"]


def row_vectors_of(
    source: RawTable, vectors: Mapping[str, VectorConfig], kinds: Kinds
) -> dict[str, tuple[str, int, float]]:
    """Return, per name, whose vectors they are, their length and their scale, as `EventSchema.row_vectors` has them.

    UserError for a column that is not there or holds no vectors.
    """
    found: dict[str, tuple[str, int, float]] = {}
    for name, config in vectors.items():
        if config.path is None:
            first = first_vectors(source, kinds, config.column, f"data.vectors.{name}.column")
            found[name] = (config.of, first.shape[1], scale_of(first))
    return found


def row_vector_columns(
    source: RawTable, kinds: Kinds, vectors: Mapping[str, VectorConfig], schema: EventSchema
) -> dict[str, Column]:
    """Return a column of the events table per vector of a row, as the schema has it; UserError for one that is not
    there.
    """
    made = {}
    for name, (_, width, _) in schema.row_vectors.items():
        column = vectors[name].column
        kind = stored_kind(source, kinds, column, f"data.vectors.{name}.column")
        made[vector_column(name)] = _vector(column, kind, width)
    return made


def _vector(column: str, kind: pl.DataType, width: int) -> Column:
    problem = f"not a vector of {width} finite numbers, as the log's first is"
    if not isinstance(kind, pl.List | pl.Array) or not kind.inner.is_numeric():
        return Column(column, pl.lit(None, pl.List(pl.Float32)), problem)
    lists = pl.col(column).arr.to_list() if isinstance(kind, pl.Array) else pl.col(column)
    numbers = lists.cast(pl.List(pl.Float32), strict=False)
    finite = numbers.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return Column(column, pl.when((numbers.list.len() == width) & finite).then(numbers), problem)
