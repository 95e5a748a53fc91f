"""How the rows of an unknown text file are laid out: what separates its columns, and whether it names them."""

from __future__ import annotations

import re
from pathlib import Path

from recdistill.config.data import TextLayout
from recdistill.data.readers.files import reading, refuse_empty
from recdistill.data.readers.paths import DataFile, data_files
from recdistill.data.readers.scan import BY_NAME
from recdistill.data.readers.texts import OTHERS, SEPARATORS, are_values, first_cells
from recdistill.errors import UserError
from recdistill.tables.delta.paths import is_table

__all__ = ["layout_of", "nameless"]

START = 1_000  # bytes that show whether a file is text
MADE = "column_{}"
AS_GIVEN = "name the log itself: a file, a folder, or a pattern in quotes"


def layout_of(path: Path) -> TextLayout:
    """Return how the text files at `path` are laid out, names made up where the first row holds values; the plain
    layout for what is no text in columns. Raises UserError for a path that cannot be read.
    """
    if is_table(path):
        return BY_NAME
    files, known = _files(path)
    if files[0].form not in SEPARATORS:
        return BY_NAME
    usual = SEPARATORS[files[0].form]
    with reading(files[0].path):
        refuse_empty(files[0].path)
        line = (first_cells(files[0].path, "\x01", quote=None) or [""])[0] or ""
        separator = usual if usual in line else max(OTHERS, key=line.count)
        separator = separator if separator in line else usual
        cells = first_cells(files[0].path, separator)
    header = [MADE.format(k + 1) for k in range(len(cells))] if are_values(cells) else []
    return TextLayout(header=header, separator=None if separator == usual and known else separator)


def nameless(name: str) -> bool:
    """Return whether a column's name was made up here."""
    return re.fullmatch(MADE.format(r"\d+"), name) is not None


def _files(path: Path) -> tuple[list[DataFile], bool]:
    """Return the files, and whether their names say what they are."""
    try:
        return data_files(path, remedy=AS_GIVEN), True
    except UserError:
        files = data_files(path, as_text=True, remedy=AS_GIVEN)
        with files[0].path.open("rb") as content:
            if files[0].form not in SEPARATORS or b"\0" in content.read(START):
                raise
        return files, False
