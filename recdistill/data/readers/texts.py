"""How a text file's rows are laid out: the names of its columns, which stand in the first row or in the experiment
file, and what separates them.

A first row that looks like values where names are expected is refused, and names that stand there where they are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from glob import escape
from pathlib import Path

import polars as pl

from recdistill.config.data import TextLayout
from recdistill.data.readers.paths import DataFile
from recdistill.data.readers.split_lines import first_split, scan_split
from recdistill.errors import UserError, printable

__all__ = [
    "OTHERS",
    "SEPARATORS",
    "are_values",
    "check_first_row",
    "first_cells",
    "layout_hint",
    "refuse_layout",
    "scan_lines",
]

FEW = 12  # cells or characters that a message shows
SEPARATORS = {"csv": ",", "tsv": "\t"}
OTHERS = (";", "\t", "|", ",", "::")  # what else separates columns, where a file seems to have one
VALUE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|\d{4}-\d\d-\d\d.*")  # a number or a date
HEADER = "write them there, or give them next to the file's path, as header: [user_id, item_id, ...]"


def scan_lines(
    file: DataFile, layout: TextLayout, infer: int, schema: dict[str, pl.DataType] | None = None
) -> pl.LazyFrame:
    """Return a text file's rows; types are those of `schema`, or what the first `infer` rows look like."""
    if file.form == "jsonl":
        return pl.scan_ndjson(escape(str(file.path)), schema=schema, infer_schema_length=infer)
    if len(_separator(file, layout)) > 1:
        return scan_split(file.path, _separator(file, layout), layout.header, infer, schema)
    return pl.scan_csv(
        file.path,
        separator=_separator(file, layout),
        has_header=not layout.header,
        new_columns=layout.header if layout.header and schema is None else None,
        schema=schema,
        infer_schema_length=infer,
        glob=False,
    )


def refuse_layout(path: Path, layout: TextLayout, kind: str) -> None:
    """Raise UserError where a header or a separator is given for what needs none."""
    if layout.given:
        raise UserError(f"{path}: header and separator are for text in columns; this is {kind}, leave them out")


def first_cells(path: Path, separator: str, quote: str | None = '"') -> list[str | None]:
    """Return the first row of a text file, cell by cell."""
    if len(separator) > 1:
        return list(first_split(path, separator))
    row = pl.scan_csv(
        path, separator=separator, has_header=False, quote_char=quote, infer_schema=False, n_rows=1, glob=False
    ).collect()
    return [None if cell is None else str(cell).strip() for cell in (row.row(0) if len(row) else ())]


def check_first_row(file: DataFile, layout: TextLayout) -> None:
    """Raise UserError where the first row is not what `layout` says: names, or values of as many columns as it has."""
    cells = first_cells(file.path, _separator(file, layout))
    if layout.header and cells:
        _check_header(file.path, layout.header, cells)
    elif are_values(cells):
        shown = ", ".join(printable(cell or "")[:FEW] for cell in cells[:FEW]) + (", ..." if len(cells) > FEW else "")
        raise UserError(f"{file.path}: the first row is taken for names, but holds values ({shown}); {HEADER}")


def _check_header(path: Path, header: list[str], cells: list[str | None]) -> None:
    if len(header) != len(cells):
        raise UserError(f"{path}: header names {len(header)} columns, the first row has {len(cells)}; name every one")
    same = [name for name, cell in zip(header, cells, strict=True) if name == cell]
    if same:
        raise UserError(f"{path}: the first row holds names ('{same[0]}'); leave out header, or that row")


def are_values(cells: list[str | None]) -> bool:
    """Return whether more than half of a row's cells cannot be names: numbers, dates, empty or repeated ones.

    Numbers that follow one another are the names of a vector's columns.
    """
    filled = [cell for cell in cells if cell]
    numbers = [cell for cell in filled if VALUE.fullmatch(cell)]
    others = set(filled) - set(numbers)
    return bool(numbers) and not _follow(numbers) and 2 * len(others) < len(cells)


def _follow(numbers: list[str]) -> bool:
    whole = [int(number) for number in numbers if number.isdecimal()]
    return len(numbers) > 1 and whole == list(range(whole[0] if whole else 0, (whole or [0])[0] + len(numbers)))


def layout_hint(names: Iterable[str]) -> str:
    """Return what to add where a column is missing among `names`: the key that would read such a text file right."""
    found = list(names)
    if len(found) == 1 and (other := next((sign for sign in OTHERS if sign in found[0]), None)):
        return f"; if a row has several columns, set separator: {ascii(other)} next to the file's path"
    if any(VALUE.fullmatch(name) for name in found):
        return f"; if the first row holds values, not names, {HEADER}"
    return ""


def _separator(file: DataFile, layout: TextLayout) -> str:
    return layout.separator or SEPARATORS[file.form]
