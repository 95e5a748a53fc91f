"""Text whose columns are parted by several characters, such as the `::` of MovieLens-1M: lines cut by polars.

There are no quotes, so that no cell holds the separator. A line with more or fewer cells than there are columns is
refused with its number and the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl

from recdistill.errors import UserError

__all__ = ["first_split", "scan_split"]

NEVER = "\x01"  # a sign that parts no line


def first_split(path: Path, separator: str) -> list[str]:
    """Return the cells of the first line, none of an empty file."""
    first = _lines(path, 1).collect()
    return [cell.strip() for cell in (first.item() or "").split(separator)] if len(first) else []


def scan_split(
    path: Path, separator: str, header: Sequence[str], infer: int, schema: Mapping[str, pl.DataType] | None = None
) -> pl.LazyFrame:
    """Return the rows, names in the first line where `header` is empty; types are those of `schema`, or what the first
    `infer` rows look like. UserError where lines differ in their number of cells.
    """
    names = list(header) or first_split(path, separator)
    if schema is None:
        schema = _looks_like(_split(path, separator, names, skip=not header, rows=infer).collect(), infer)
    kinds = [pl.col(name).cast(kind) for name, kind in schema.items()]
    return _split(path, separator, names, skip=not header).select(kinds)


def _lines(path: Path, rows: int | None = None, skip: bool = False) -> pl.LazyFrame:
    return pl.scan_csv(
        path,
        separator=NEVER,
        has_header=False,
        skip_lines=int(skip),
        quote_char=None,
        glob=False,
        schema={"line": pl.String()},
        n_rows=rows,
    )


def _split(path: Path, separator: str, names: Sequence[str], skip: bool, rows: int | None = None) -> pl.LazyFrame:
    """Return the cells of every line as text, null where they are empty."""

    def whole(lines: pl.DataFrame) -> pl.DataFrame:
        cells = lines["line"].fill_null("").str.count_matches(separator, literal=True) + 1
        uneven = (cells != len(names)).arg_true()
        if len(uneven):
            row, found = lines["row"][uneven[0]], cells[uneven[0]]
            raise UserError(f"{path}: row {row} has {found} columns, not {len(names)}; separator is {separator!r}")
        return lines

    numbered = (
        _lines(path, rows, skip)
        .with_row_index("row")
        .map_batches(whole, projection_pushdown=False, predicate_pushdown=False, streamable=True)
    )
    fields = pl.col("line").str.split_exact(separator, len(names) - 1).struct.rename_fields(list(names))
    return numbered.select(fields).unnest("line").with_columns(pl.when(pl.all() != "").then(pl.all()))


def _looks_like(cells: pl.DataFrame, infer: int) -> pl.Schema:
    """Return the types that rows of text look like, as a CSV file of them would."""
    return pl.read_csv(BytesIO(cells.write_csv().encode()), infer_schema_length=infer).schema
