"""Criteo's Display Advertising Challenge as Kaggle published it, and the x4 split that BARS made of it.

Kaggle (https://www.kaggle.com/c/criteo-display-ad-challenge/data): train.txt, tabs, no header: the label, 13 counts, 26
hashes; in order of time, but without times, users or the meaning of a column. x4
(https://github.com/reczoo/Datasets/tree/main/Criteo/Criteo_x4): the same rows in train.csv, valid.csv and test.csv,
8 : 1 : 1 at random, commas and a header.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import RawTable, scan_text
from recdistill.data.readers.options import one_of, read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader
from recdistill.data.readers.scan import scan_in_order

__all__ = ["CriteoOptions", "read_criteo", "read_criteo_x4"]

INTEGER, TEXT = pl.Int64(), pl.String()
COUNTS = tuple(f"I{k}" for k in range(1, 14))
HASHES = tuple(f"C{k}" for k in range(1, 27))
FIELDS = {"Label": INTEGER, **dict.fromkeys(COUNTS, INTEGER), **dict.fromkeys(HASHES, TEXT)}
NO_ITEM = "missing"  # some hashes are empty, an item may not be


@dataclass(frozen=True)
class CriteoOptions:
    """item: which of C1 to C26 is taken for the ad; what they mean is not disclosed."""

    item: str = "C1"


def read_criteo(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the rows of train.txt in their order, without users or times: task click, 13 numbers, 26 categories.

    Memory is flat. Raises UserError for a folder without the file, and for an item that is none of the hashes.
    """
    return _read(config, scan_text(folder.file("rows"), FIELDS, "\t"))


def read_criteo_x4(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the rows of train.csv, then valid.csv, then test.csv, so that the last tenth is the test split; else as
    `read_criteo`.
    """
    files = [folder.file(part) for part in ("train", "valid", "test")]
    return _read(config, scan_in_order(folder.path, files))


def _read(config: DataConfig, source: RawTable) -> Log:
    item = one_of("item", read_options(config, CriteoOptions).item, HASHES)
    columns = ColumnsConfig(
        user=None,
        time=None,
        item=item,
        tasks={"click": "Label"},
        categorical=[name for name in HASHES if name != item],
        numeric=list(COUNTS),
        dtypes=dict.fromkeys(HASHES, "text"),
    )
    events = EventReader(
        source, columns, prepare=lambda chunk: chunk.with_columns(pl.col(item).fill_null(NO_ITEM)), needs=tuple(FIELDS)
    )
    return Log(events.mapped()[0], events.chunks, None, str(source.path))
