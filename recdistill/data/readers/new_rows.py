"""Rows to predict: a table like the log's, without labels, in any order, in the columns of a run's events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.mapping import convert, event_columns
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError
from recdistill.tables.schema import POLARS_TYPES, EventSchema

__all__ = ["columns_of", "new_rows", "source_of"]

ROWS = 65_536  # of a chunk
WHOLE = ("to_polars", "to_table")  # of a Hugging Face dataset, of an Arrow dataset
REQUIRED = ("time", "user_id", "item_id")  # a row without one of them cannot be predicted


def source_of(data: Any) -> RawTable:
    """Return a path (see `scan_file`) or a frame (polars, pandas, Arrow), or what makes a whole frame of itself as an
    Arrow or Hugging Face dataset does, as a source; UserError for others.
    """
    if isinstance(data, str | Path):
        return scan_file(Path(data))
    frame = data.collect() if isinstance(data, pl.LazyFrame) else data
    makes = next((getattr(data, name) for name in WHOLE if hasattr(data, name)), None)
    if makes is not None and not isinstance(frame, pl.DataFrame):
        frame = makes()
    if not isinstance(frame, pl.DataFrame):
        try:
            frame = pl.DataFrame(frame)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise UserError(
                f"a {type(data).__name__} is no table: give a path or a polars, pandas or Arrow frame"
            ) from error
    return RawTable(Path("the frame"), frame.lazy(), dict(frame.schema), slices=True)


def columns_of(config: DataConfig, schema: EventSchema) -> ColumnsConfig:
    """Return the mapping of a run's log without its labels; of logs that are no table, the events' own column names."""
    if config.reader == "table":
        return config.columns.model_copy(update={"tasks": {}, "label_times": {}})
    kinds = schema.features
    return ColumnsConfig(
        user="user_id",
        item="item_id",
        request="request_id" if schema.has_request else None,
        categorical=[name for name, kind in kinds.items() if kind in ("int64", "string")],
        numeric=[name for name, kind in kinds.items() if kind == "float32"],
        lists={name: "|" for name, kind in kinds.items() if kind.startswith("list")},
    ).model_copy(update={"tasks": {}, "sample_id": "sample_id"})


def new_rows(source: RawTable, columns: ColumnsConfig, schema: EventSchema) -> Iterator[pl.DataFrame]:
    """Yield the source's rows in order, in the columns of `schema` with labels that are null.

    A sample id that the source does not have is the row's number. Raises UserError for a column that is missing or a
    value that is not of the run's type.
    """
    if columns.sample_id not in source.kinds:
        columns = columns.model_copy(update={"sample_id": None})
    _, made = event_columns(source.kinds, columns, source.path)
    done = 0
    with source.naming_files():
        for chunk in source.chunks([column.source for column in made.values()], rows=ROWS):
            rows, _ = convert(chunk, made, source.path)
            if columns.sample_id is None:
                rows = rows.with_columns(sample_id=pl.int_range(done, done + len(rows), dtype=pl.Int64))
            rows = _typed(rows, schema.columns(), source.path)
            done += len(rows)
            yield rows


def _typed(rows: pl.DataFrame, types: Mapping[str, pl.DataType], path: Path) -> pl.DataFrame:
    absent = [name for name in types if name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, types[name]).alias(name) for name in absent)
    typed = rows.select(pl.col(name).cast(kind, strict=False) for name, kind in types.items())
    for name, kind in types.items():
        lost = typed[name].is_null() & (rows[name].is_not_null() | (name in REQUIRED))
        if lost.any():
            row = int(lost.arg_max() or 0)
            raise UserError(
                f"{path}: column '{name}': row {row} holds {rows[name][row]!r}, but the run's log has {_plain(kind)}"
            )
    return typed


def _plain(kind: pl.DataType) -> str:
    return next((name for name, known in POLARS_TYPES.items() if known == kind), "time")
