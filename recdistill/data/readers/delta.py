"""A Delta table that any engine wrote, its rows in the order of versions, file by file."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from recdistill.data.readers.files import RawTable, reading
from recdistill.data.readers.pieces import Kinds, Piece, as_table
from recdistill.errors import UserError
from recdistill.tables.delta.commits import Snapshot, newest_version
from recdistill.tables.delta.files import Part

__all__ = ["scan_delta"]

PLAIN = {"timestampNtz", "typeWidening", "typeWidening-preview", "v2Checkpoint", "vacuumProtocolCheck"}


def scan_delta(path: Path) -> RawTable:
    """Return the table's newest version: what an earlier version added stands first, of one version by file name.

    A table with deleted rows or renamed columns (deletion vectors, column mapping) is read in the order that polars
    gives. Raises UserError for one that cannot be read.
    """
    with reading(path):
        table = DeltaTable(str(path), version=newest_version(path))
        kinds = dict(pl.Schema(table.schema().to_arrow()))
        version = f"{table.metadata().id} {table.version()}"
        parts = _ordered(table, path)
        if parts is None:
            frame = pl.scan_delta(table)
            return RawTable(path, frame, dict(frame.collect_schema()), slices=True, version=version)
        pieces = [_piece(path, part, kinds) for part in parts]
        empty = Piece(path, pl.LazyFrame(schema=kinds), kinds, kinds)
        whole = as_table(path, [empty, *pieces], slices=True)
        return RawTable(path, whole.frame, kinds, True, whole.parts[1:], version=version)


def _ordered(table: DeltaTable, path: Path) -> list[Part] | None:
    """Return the files in the order of versions, None where they alone are not the table's rows."""
    protocol = table.protocol()
    features = set(protocol.reader_features or ())
    mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    if mapped or not features <= PLAIN:
        return None
    try:
        return Snapshot(path, table.version()).advance(table.version()).parts()
    except UserError:  # its log is of a kind that only the library reads
        return None


def _piece(path: Path, part: Part, kinds: Kinds) -> Piece:
    file = path / part.path
    frame = pl.scan_parquet(file, hive_partitioning=False, glob=False)
    stored = {name: kind for name, kind in frame.collect_schema().items() if name in kinds}
    given = {name: kinds[name] for name in part.partition if name in kinds and name not in stored}
    values = [_value(part.partition[name], kind).alias(name) for name, kind in given.items()]
    return Piece(file, frame.select(*stored, *values), stored | given, stored | given)


def _value(text: str, kind: pl.DataType) -> pl.Expr:
    """Return a partition's value, which the log holds as text."""
    if kind == pl.Boolean:
        return pl.lit(text == "true")
    value = pl.Series([text])
    if isinstance(kind, pl.Datetime):
        value = value.str.to_datetime(time_unit="us", time_zone=kind.time_zone)
    return pl.lit(value.str.to_date()[0] if kind == pl.Date else value.cast(kind)[0], kind)
