"""Rows to predict: a table like the log's, without labels, in any order, in the columns of a run's events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig, VectorConfig
from recdistill.data.readers.columns import Counts, convert
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.iceberg import path_of
from recdistill.data.readers.ids import id_names
from recdistill.data.readers.mapping import NEW_TIME, event_columns
from recdistill.data.readers.new_layout import layout_of_new
from recdistill.data.readers.numbering import RequestNumbers
from recdistill.data.readers.row_vectors import row_vector_columns
from recdistill.data.readers.rows import kinds_in, sources_of
from recdistill.data.readers.scan import scan_file
from recdistill.data.readers.sequences import SequenceReader, sequence_sources
from recdistill.data.readers.side_tables import SideTable, own_features
from recdistill.data.readers.times import check_unit
from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema
from recdistill.tables.validation import check_needed

__all__ = ["columns_of", "new_rows", "source_of"]

ROWS = 65_536  # of a chunk
NO_VECTORS: dict[str, VectorConfig] = {}
WHOLE = ("to_polars", "to_table")  # of a Hugging Face dataset, of an Arrow dataset


def source_of(data: Any, log: DataConfig | None = None) -> RawTable:
    """Return a path (see `scan_file`), a table of pyiceberg or a frame (polars, pandas, Arrow), or what makes a whole
    frame of itself as an Arrow or Hugging Face dataset does, as a source; UserError for others. log: of the run for
    which text is read, which may be laid out as that is.
    """
    if (path := path_of(data)) is not None:
        return scan_file(path) if log is None else scan_file(path, layout_of_new(path, log))
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
    """Return the mapping of a run's log without its labels; of logs that are no table, the events' ids and time
    under the table's names and the features under their own.
    """
    if config.reader == "table":
        return config.columns.model_copy(update={"tasks": {}, "label_times": {}, "weight": None})
    kinds = own_features(config, schema)
    return ColumnsConfig(
        time="time" if schema.has_time else None,
        user="user_id" if schema.has_user else None,
        item="item_id",
        request="request_id" if schema.has_request else None,
        categorical=[name for name, kind in kinds.items() if kind in ("int64", "string")],
        numeric=[name for name, kind in kinds.items() if kind == "float32"],
        lists={name: "|" for name, kind in kinds.items() if kind.startswith("list")},
    ).model_copy(update={"tasks": {}, "sample_id": "sample_id"})


def new_rows(
    source: RawTable,
    columns: ColumnsConfig,
    schema: EventSchema,
    counts: Counts | None = None,
    sides: Sequence[SideTable] = (),
    vectors: Mapping[str, VectorConfig] = NO_VECTORS,
) -> Iterator[pl.DataFrame]:
    """Yield the source's rows in order, in the columns of `schema` with labels that are null; sides: whose features
    they are joined with, as of their times; vectors: of the run's log.

    A sample id that the source does not have is the row's number. Raises UserError for a column that is missing or a
    value that is not of the run's type. counts: what to note once they were read.
    """
    counts = Counts() if counts is None else counts
    if columns.sample_id not in source.kinds:
        columns = columns.model_copy(update={"sample_id": None})
    kinds = kinds_in(source, id_names(columns))
    made = event_columns(kinds, columns, schema, source.path)
    made |= {} if columns.time else {"time": NEW_TIME}
    made |= row_vector_columns(source, kinds, vectors, schema)
    sequences = SequenceReader(columns, kinds, schema, source.path)
    requests, done = RequestNumbers(), 0
    with source.naming_files():
        for chunk in source.chunks([*sources_of(made), *sequence_sources(columns)], rows=ROWS):
            if columns.time is not None:
                check_unit(chunk, made["time"], columns.time_unit, kinds[columns.time], source.path)
            rows, origin = convert(chunk, made, source.path, counts)
            check_needed(rows, origin)
            rows = sequences.added(chunk, rows, counts)
            if "sample_id" not in made:
                rows = rows.with_columns(sample_id=pl.int_range(done, done + len(rows), dtype=pl.Int64))
            done += len(rows)
            for side in sides:
                rows = side.joined(rows)
            yield _whole(requests.numbered(rows), schema.columns())


def _whole(rows: pl.DataFrame, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    absent = [pl.lit(None, kind).alias(name) for name, kind in types.items() if name not in rows.columns]
    return rows.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in types.items())
