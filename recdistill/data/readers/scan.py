"""A path as one table: a file, the files of a folder or of a pattern, or a Delta or Iceberg table in its own order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recdistill.config.data import TextLayout
from recdistill.data.readers.delta import scan_delta
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.iceberg import metadata_of, scan_iceberg
from recdistill.data.readers.paths import DataFile, data_files
from recdistill.data.readers.pieces import as_table, pieces_of
from recdistill.data.readers.texts import refuse_layout
from recdistill.tables.delta.paths import is_table

__all__ = ["scan_file", "scan_in_order"]

BY_NAME = TextLayout()  # a first row of names, separated as the file's name says


def scan_file(path: Path, layout: TextLayout = BY_NAME) -> RawTable:
    """Return what `path` names: a Delta or Iceberg table, or Parquet, CSV (.csv, .tsv) or JSON lines (.jsonl, .ndjson),
    the latter two also packed (.gz, .zst); one file, the files of a folder, or those that a pattern matches. Where
    `layout` gives a header or a separator, files of other names are text in columns too.

    Raises UserError when it is missing, empty or unreadable, or its files are not of one kind.
    """
    if is_table(path):
        refuse_layout(path, layout, "a Delta table")
        return scan_delta(path)
    if metadata := metadata_of(path):
        refuse_layout(path, layout, "an Iceberg table")
        return scan_iceberg(path, metadata)
    files = data_files(path, as_text=layout.given)
    return as_table(path, pieces_of(files, layout), slices=files[0].form == "parquet")


def scan_in_order(path: Path, files: Sequence[Path]) -> RawTable:
    """Return CSV files with a header each as one table, in the order given; `path` is the folder that they are from."""
    return as_table(path, pieces_of([DataFile(file, "csv", {}) for file in files], BY_NAME), slices=False)
