"""The Parquet files of a table: synced before a commit names them, read back with every page's checksum verified."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import quote
from uuid import uuid4

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from recdistill.errors import UserError
from recdistill.storage.location import Location, new_file
from recdistill.tables.delta.types import TIME

__all__ = ["Part", "ahead", "arrow", "gathered", "read_parts", "staged_rows", "write_part", "write_parts"]

RANGED = ("sample_id", "version", "time")  # what readers leave files out by
PACKED = {"sample_id": "DELTA_BINARY_PACKED", "time": "DELTA_BINARY_PACKED"}  # no value twice: a dictionary only costs


@dataclass(frozen=True)
class Part:
    """A data file: path below the table, partition values, bytes, when its oldest rows were written (ms since 1970).

    low, high: the range of its sample ids; oldest, newest: a range that holds its times (us since 1970); rows: their
    number; None where unknown. Raises UserError for a path that leads out of the table.
    """

    path: str
    partition: dict[str, str]
    size: int
    written: int
    low: int | None
    high: int | None
    oldest: int | None = None
    newest: int | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or "://" in self.path:
            raise UserError(f"{self.path!r}: the log of a table names this file, which lies outside of the table")

    def may_hold(self, low: int, high: int) -> bool:
        """Return whether a sample id of [low, high] may stand in the file."""
        return self.low is None or self.high is None or (self.low <= high and low <= self.high)

    def may_hold_times(self, first: int, last: int) -> bool:
        """Return whether a time of [first, last], us since 1970, may stand in the file."""
        return self.oldest is None or self.newest is None or (self.oldest <= last and first <= self.newest)


def arrow(rows: pl.DataFrame) -> pa.Table:
    """Return `rows` in the types that every Arrow library reads."""
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def write_parts(
    table: Location, rows: pl.DataFrame, partitions: tuple[str, ...], name: str | None = None
) -> list[AddAction]:
    """Write `rows` as one file per partition, in order; when one cannot be written (OSError) none is left.

    name: of the files, which take the place of those of that name; None: one that nobody else has.
    """
    actions: list[AddAction] = []
    split = rows.partition_by(*partitions, as_dict=True, include_key=False) if partitions else {(): rows}
    try:
        for key, part in sorted(split.items()) if len(rows) else ():
            partition = dict(zip(partitions, map(str, key), strict=True))
            now = int(time.time() * 1000)
            actions.append(write_part(table, partition, [part], written=now, change=True, name=name))
    except OSError:
        for action in actions:
            (table / action.path).unlink(missing_ok=True)
        raise
    return actions


def write_part(
    table: Location,
    partition: dict[str, str],
    frames: Iterable[pl.DataFrame],
    *,
    written: int,
    change: bool,
    name: str | None = None,
) -> AddAction:
    """Write `frames` (at least one) into a file of `partition`; return the action that adds it to the table.

    written: see Part. change: whether these rows are new to the table. name: see `write_parts`; several processes may
    write one at a time. Raises OSError, and leaves no file, when it cannot be written.
    """
    folders = [f"{key}={quote(value, safe='')}" for key, value in partition.items()]
    path = Path(*folders, f"{name or uuid4()}.parquet")
    with new_file(table / path) as file:
        stats = _write(file, iter(frames))
        size = file.tell()
    return AddAction(str(path), size, partition, written, change, stats)


def _write(file: BinaryIO, frames: Iterator[pl.DataFrame]) -> str:
    ranges = []
    first = arrow(next(frames))
    with pq.ParquetWriter(
        file,
        first.schema,
        compression="snappy",
        write_page_checksum=True,
        use_dictionary=_dictionaries(first.schema),
        column_encoding={name: PACKED[name] for name in first.schema.names if name in PACKED},
    ) as writer:
        for rows in _chain(first, frames):
            writer.write_table(rows)
            ranges.append(_range(pl.DataFrame(rows)))
    return _stats(pl.concat(ranges))


def _dictionaries(schema: pa.Schema) -> list[str]:
    """Return the columns, as Parquet paths, whose values repeat."""
    plain = [field for field in schema if field.name not in PACKED and not field.name.startswith("logit_")]
    return [f"{field.name}.list.element" if pa.types.is_large_list(field.type) else field.name for field in plain]


def _chain(first: pa.Table, frames: Iterator[pl.DataFrame]) -> Iterator[pa.Table]:
    yield first
    yield from map(arrow, frames)


def _range(rows: pl.DataFrame) -> pl.DataFrame:
    known = [name for name in RANGED if name in rows.columns]
    return rows.select(
        pl.len().alias("rows"),
        pl.col(known).null_count().name.prefix("nulls."),
        pl.col(known).min().name.prefix("min."),
        pl.col(known).max().name.prefix("max."),
    )


def _stats(ranges: pl.DataFrame) -> str:
    known = [name for name in RANGED if f"min.{name}" in ranges.columns]
    return json.dumps(
        {
            "numRecords": ranges["rows"].sum(),
            "nullCount": {name: int(ranges[f"nulls.{name}"].sum()) for name in known},
            "minValues": {name: _in_json(ranges[f"min.{name}"].min()) for name in known},
            "maxValues": {name: _in_json(ranges[f"max.{name}"].max()) for name in known},
        }
    )


def _in_json(value: object) -> object:
    """Return a bound as statistics hold it: times as text, to the microsecond."""
    return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z" if isinstance(value, datetime) else value


def read_parts(
    table: Location, parts: Iterable[Part], types: Mapping[str, pl.DataType], rows: int | None
) -> Iterator[pl.DataFrame]:
    """Yield the columns `types` of `parts` in order, at most `rows` at a time (None: a file at a time).

    Raises UserError for a file that is damaged or that vacuum removed.
    """
    for part in parts:
        path = table / part.path
        stored = {name: kind for name, kind in types.items() if name not in part.partition}
        try:
            file = pq.ParquetFile(_opened(path), page_checksum_verification=True)
            _check_types(file.schema_arrow, tuple(stored.items()))
            size, left = rows or max(file.metadata.num_rows, 1), file.metadata.num_rows
            for batch in file.iter_batches(
                batch_size=size, columns=list(stored), use_threads=False
            ):  # a file has few columns
                clean = pa.RecordBatch.from_arrays(batch.columns, names=batch.schema.names)
                left -= len(clean)
                yield _filled(pl.DataFrame(clean), part.partition, types)
            if left and stored:  # no checksum covers a page's header: a page of a kind that there is not is passed over
                raise OSError(f"it lacks {left} of its {file.metadata.num_rows} rows")
        except FileNotFoundError:
            raise UserError(
                f"{path}: removed by vacuum while still to be read; read batches() of a newer version and follow "
                "from there"
            ) from None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: damaged Parquet file: {str(error).splitlines()[0]}") from None


def staged_rows(
    table: Location, files: Iterable[AddAction], types: Mapping[str, pl.DataType]
) -> Iterator[pl.DataFrame]:
    """Yield the columns `types` of files that were written and may not be committed yet; see `read_parts`."""
    parts = (Part(file.path, {}, file.size, file.modification_time, None, None) for file in files)
    yield from read_parts(table, parts, types, None)


def _opened(path: Location) -> pa.NativeFile:
    """Return a file to read from; an object comes whole, and compaction bounds its size."""
    return pa.memory_map(str(path)) if isinstance(path, Path) else pa.BufferReader(path.read_bytes())


@cache
def _fields(types: tuple[tuple[str, pl.DataType], ...]) -> list[pa.Field]:
    """Return the columns as a file has them."""
    return list(arrow(pl.DataFrame(schema=dict(types))).schema)


def _check_types(found: pa.Schema, types: tuple[tuple[str, pl.DataType], ...]) -> None:
    """Raise OSError unless the file has these columns: no checksum covers its footer."""
    for field in _fields(types):
        at = found.get_field_index(field.name)
        if at < 0 or _plain(found.field(at).type) != _plain(field.type):
            raise OSError(
                f"its column '{field.name}' is {found.field(at).type if at >= 0 else 'missing'}, not {field.type}"
            )


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type without what writers do differently: the width of offsets, Spark's timestamps."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if kind == pa.timestamp("ns"):
        return pa.timestamp("us", "UTC")
    return pa.string() if pa.types.is_large_string(kind) else kind


def _filled(rows: pl.DataFrame, partition: dict[str, str], types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return `rows` with partition values filled in, columns as in `types`."""
    for name in [name for name in partition if name in types]:
        rows.insert_column(rows.width, pl.Series([partition[name]]).new_from_index(0, len(rows)).alias(name))
    if rows.schema.get("time", TIME) != TIME:
        rows = rows.with_columns(pl.col("time").cast(TIME))
    return rows if rows.columns == list(types) else rows.select(list(types))


def gathered(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Yield `frames`, none longer than `rows`, with small neighbours joined: what is done per frame follows the rows,
    however many files they lie in.
    """
    held: list[pl.DataFrame] = []
    count = 0
    for frame in frames:
        if held and count + len(frame) > rows:
            yield pl.concat(held, rechunk=True)
            held, count = [], 0
        held.append(frame)
        count += len(frame)
    if held:
        yield pl.concat(held, rechunk=True)


def ahead(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield `frames`; while one is used, a thread reads the next."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, frames, None)
        while (rows := waiting.result()) is not None:
            waiting = pool.submit(next, frames, None)
            yield rows
