"""Frames to one file, a chunk at a time, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl
import pyarrow.csv as csv
import pyarrow.parquet as pq

from recdistill.errors import UserError

__all__ = ["NO_ROWS", "write_frames"]

NO_ROWS = "there are no rows to predict"


def write_frames(path: Path, frames: Iterator[pl.DataFrame]) -> int:
    """Write frames of one schema to a .parquet or .csv file and return their rows; memory O(frame).

    Raises UserError for another kind of file, a folder that is not there, or no rows; nothing is left behind then.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise UserError(f"{path}: name a .parquet or a .csv file")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder")
    part = path.with_name(path.name + ".part")
    try:
        rows = _write(part, path.suffix, frames)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return rows


def _write(part: Path, kind: str, frames: Iterator[pl.DataFrame]) -> int:
    first = next(frames, None)
    if first is None:
        raise UserError(NO_ROWS)
    schema = first.to_arrow().schema
    rows = 0
    with pq.ParquetWriter(part, schema) if kind == ".parquet" else csv.CSVWriter(part, schema) as writer:
        for frame in chain((first,), frames):
            writer.write_table(frame.to_arrow().cast(schema))
            rows += len(frame)
    return rows
