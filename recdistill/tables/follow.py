"""Which files each commit added, read from the Delta log itself, so that order and versions are exact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow.parquet as pq
from pyarrow import ArrowException

from recdistill.errors import UserError

__all__ = ["AddedFile", "added_files", "read_files"]

AddedFile = tuple[str, dict[str, str]]  # path below the table, partition values


def _actions(table: Path, version: int) -> list[dict[str, Any]]:
    path = table / "_delta_log" / f"{version:020d}.json"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except FileNotFoundError:
        raise UserError(f"{path}: this version was cleaned up; read from a newer one") from None
    except (OSError, ValueError):
        raise UserError(f"{path}: the log of the table is damaged") from None


def added_files(table: Path, after: int, upto: int) -> Iterator[tuple[int, list[AddedFile]]]:
    """Yield (version, files) for the commits in (after, upto] that added rows, files in order of partition and part."""
    for version in range(after + 1, upto + 1):
        adds = [action["add"] for action in _actions(table, version) if "add" in action]
        files = [(unquote(add["path"]), add["partitionValues"]) for add in adds if add["dataChange"]]
        if files:
            yield version, sorted(files, key=lambda file: file[0])


def read_files(
    table: Path, files: list[AddedFile], columns: list[str] | None, rows: int | None
) -> Iterator[pl.DataFrame]:
    """Yield the rows of `files` in order, at most `rows` at a time (None: a file at a time), partition values filled in."""
    for name, values in files:
        path = table / name
        try:
            file = pq.ParquetFile(path, memory_map=True)
            wanted = [column for column in columns if column in file.schema_arrow.names] if columns else None
            for batch in file.iter_batches(batch_size=rows or max(file.metadata.num_rows, 1), columns=wanted):
                frame = pl.from_arrow(batch)
                if isinstance(frame, pl.DataFrame):
                    yield _with_partitions(frame, values, columns)
        except FileNotFoundError:
            raise UserError(
                f"{path}: removed by vacuum while still to be read; vacuum with a longer retention"
            ) from None
        except (ArrowException, OSError) as error:
            raise UserError(f"{path}: damaged Parquet file: {str(error).splitlines()[0]}") from None


def _with_partitions(rows: pl.DataFrame, values: dict[str, str], columns: list[str] | None) -> pl.DataFrame:
    fill = {name: pl.lit(value) for name, value in values.items() if columns is None or name in columns}
    if "date" in fill:
        fill["date"] = fill["date"].str.to_date()
    if "time" in rows.columns:
        fill["time"] = pl.col("time").cast(pl.Datetime("us", "UTC"))
    return rows.with_columns(**fill)
