"""How a text file of new rows is laid out: as the log of the run was, with its labels or without, or with names."""

from __future__ import annotations

from pathlib import Path

from recdistill.config.data import DataConfig, TextLayout
from recdistill.data.readers.files import reading
from recdistill.data.readers.iceberg import metadata_of
from recdistill.data.readers.paths import data_files
from recdistill.data.readers.texts import SEPARATORS, first_cells
from recdistill.errors import UserError
from recdistill.tables.delta.paths import is_table

__all__ = ["layout_of_new"]


def layout_of_new(path: Path, log: DataConfig) -> TextLayout:
    """Return the layout of new rows at `path`, for a run whose log has that of `log`.

    Text is parted as the log's was, else as its name says; its first row holds names, or values as the log's does,
    where the labels may be missing. Raises UserError for values of another number of columns, and for a path that
    cannot be read.
    """
    if not log.given or is_table(path) or metadata_of(path):
        return TextLayout()
    first = data_files(path, as_text=True)[0]
    if first.form not in SEPARATORS:
        return TextLayout()
    layouts = _headers(log)
    own = SEPARATORS[first.form]
    with reading(first.path):
        for separator in dict.fromkeys((log.separator or own, own)):
            cells = first_cells(first.path, separator)
            if not log.header or set(cells) & set(log.header):
                return TextLayout(separator=separator)
            for header in layouts:
                if len(cells) == len(header):
                    return TextLayout(header=header, separator=separator)
    counts = " or ".join(str(len(header)) for header in layouts)
    found = len(first_cells(first.path, log.separator or own))
    raise UserError(
        f"{first.path}: the first row has {found} columns; laid out as the run's log, new rows have {counts} (without "
        "labels); or write names in the first row"
    )


def _headers(log: DataConfig) -> list[list[str]]:
    """Return the names of the log's columns, with its labels and without."""
    labels = log.columns.label_columns
    without = [name for name in log.header if name not in labels]
    return [log.header] if without == log.header else [log.header, without]
