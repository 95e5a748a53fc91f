"""An Iceberg table of the local disk, its rows in the order of snapshots, file by file; needs the extra `iceberg`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import polars as pl

from recdistill.data.readers.files import RawTable, reading
from recdistill.data.readers.pieces import Kinds, Piece, as_table
from recdistill.errors import UserError

__all__ = ["metadata_of", "path_of", "scan_iceberg"]

METADATA = ".metadata.json"
NEEDS = "an Iceberg table, which needs a package that is not installed: pip install 'recdistill[iceberg]'"


def path_of(data: Any) -> Path | None:
    """Return the path that `data` is, or an Iceberg table's metadata file where it is one of pyiceberg's; else None."""
    if isinstance(data, str | Path):
        return Path(data)
    location = getattr(data, "metadata_location", None)
    return _local(str(location), Path("the table")) if isinstance(location, str) else None


def metadata_of(path: Path) -> Path | None:
    """Return the newest metadata file of the Iceberg table at `path`, or that file itself; None for what is none.

    Raises UserError where two files have the highest number, for only the table's catalog knows which of them counts.
    """
    if path.is_file():
        return path if path.name.endswith(METADATA) else None
    found = sorted(path.glob(f"metadata/*{METADATA}")) if path.is_dir() else []
    numbers = [int(match[1]) if (match := re.match(r"v?([0-9]+)", one.name)) else -1 for one in found]
    newest = [one for one, number in zip(found, numbers, strict=True) if number == max(numbers)]
    if len(newest) > 1:
        names = f"{newest[0].name} and {newest[1].name}"
        raise UserError(f"{path}: {names} both stand for the newest state; name the one that counts as data.path")
    return newest[0] if newest else None


def scan_iceberg(path: Path, metadata: Path) -> RawTable:
    """Return the table of a metadata file: what an earlier snapshot added stands first, of one snapshot as written.

    A table with deleted rows or renamed columns is read in the order that polars gives. `path` is for messages. Raises
    UserError for one that cannot be read, that lies elsewhere, or without the extra.
    """
    try:
        from pyiceberg.exceptions import ValidationError
        from pyiceberg.table import StaticTable
    except ImportError:
        raise UserError(f"{path}: {NEEDS}") from None
    with reading(path):
        try:
            table = StaticTable.from_metadata(str(metadata))
            snapshot = table.current_snapshot()
            version = f"{table.metadata.table_uuid} {snapshot.snapshot_id if snapshot else 0}"
            kinds = dict(pl.Schema(table.schema().as_arrow()))
            files = _ordered(table, path) if snapshot else []
        except (KeyError, ValidationError) as error:
            raise ValueError(str(error)) from None
        if files is None:
            os.environ.setdefault("POLARS_ICEBERG_PLANNER", "pyiceberg")  # or polars warns of what is not installed
            frame = pl.scan_iceberg(table)
            return RawTable(path, frame, dict(frame.collect_schema()), slices=True, version=version)
        empty = Piece(path / "schema", pl.LazyFrame(schema=kinds), kinds, kinds)
        whole = as_table(path, [empty, *(_piece(file, kinds) for file in files)], slices=True)
        return RawTable(path, whole.frame, kinds, True, whole.parts[1:], version=version)


def _ordered(table: Any, path: Path) -> list[Path] | None:
    """Return the files in the order of snapshots, None where they alone are not the table's rows."""
    tasks = list(table.scan().plan_files())
    names = [{field.field_id: field.name for field in schema.fields} for schema in table.schemas().values()]
    if any(task.delete_files for task in tasks) or not _steady(names) or table.format_version > 2:
        return None
    live = {task.file.file_path for task in tasks}
    entries = table.inspect.entries().select(["sequence_number", "snapshot_id", "data_file"]).to_pylist()
    found = [(_place(table, entry), entry["data_file"]) for entry in entries if entry["data_file"]["file_path"] in live]
    if any(file["file_format"].upper() != "PARQUET" for _, file in found):
        return None
    return [_local(file["file_path"], path) for _, file in sorted(found, key=lambda one: one[0])]


def _place(table: Any, entry: dict[str, Any]) -> tuple[int, int]:
    """Return what files are sorted by: the sequence number, of a table without those the snapshot's time."""
    snapshot = table.snapshot_by_id(entry["snapshot_id"])
    return int(entry["sequence_number"] or 0), int(snapshot.timestamp_ms) if snapshot else 0


def _steady(names: Sequence[dict[int, str]]) -> bool:
    """Return whether a name has always meant the same column, and a column had always the same name."""
    pairs = {pair for one in names for pair in one.items()}
    return len(pairs) == len({field for field, _ in pairs}) == len({name for _, name in pairs})


def _piece(file: Path, kinds: Kinds) -> Piece:
    frame = pl.scan_parquet(file, hive_partitioning=False, glob=False)
    stored = {name: kind for name, kind in frame.collect_schema().items() if name in kinds}
    return Piece(file, frame.select(*stored), stored, stored)


def _local(location: str, path: Path) -> Path:
    """Return the path of a file of the table; UserError for one that lies elsewhere."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        raise UserError(f"{path}: its files lie at {parts.scheme}://, and only those of the local disk are read")
    return Path(unquote(parts.path) if parts.scheme else location)
