"""Avazu's click log as Kaggle published it, and the x4 split that BARS made of it.

Kaggle (https://www.kaggle.com/c/avazu-ctr-prediction/data): train.csv, ten days in order; hour is YYMMDDHH in UTC, C1
and C14 to C21 are undisclosed categories, and no column names a user. x4
(https://github.com/reczoo/Datasets/tree/main/Avazu/Avazu_x4): the same rows in train.csv, valid.csv and test.csv,
8 : 1 : 1 at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import RawTable, scan_csv
from recdistill.data.readers.options import one_of, read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader
from recdistill.data.readers.scan import scan_in_order

__all__ = ["AvazuOptions", "AvazuX4Options", "read_avazu", "read_avazu_x4"]

CATEGORIES = (
    "C1",
    "banner_pos",
    *(f"{place}_{what}" for place in ("site", "app") for what in ("id", "domain", "category")),
    *(f"device_{what}" for what in ("id", "ip", "model", "type", "conn_type")),
    *(f"C{k}" for k in range(14, 22)),
)
HOUR = "%y%m%d%H"
CLOCK = ("hour_of_day", "weekday")  # made of the hour


@dataclass(frozen=True)
class AvazuOptions:
    """item: which category is taken for the ad, which is not disclosed; user: which device column for the user."""

    item: str = "C14"
    user: Literal["device_ip", "device_id"] | None = None


@dataclass(frozen=True)
class AvazuX4Options:
    """item: which category is taken for the ad, which is not disclosed."""

    item: str = "C14"


def read_avazu(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the rows of train.csv, task click, every category and the hour's place in day and week.

    Times are hours, so that a label is known to the rows of later hours only. The file is in order; another order is
    sorted in memory. Raises UserError for a folder without the file, and for an item that is no category.
    """
    options = read_options(config, AvazuOptions)
    return _read(scan_csv([folder.file("rows")]), options.item, options.user, "hour")


def read_avazu_x4(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the rows of train.csv, then valid.csv, then test.csv, so that the last tenth is the test split, without
    users or times: in each file the ten days begin anew.
    """
    files = [folder.file(part) for part in ("train", "valid", "test")]
    return _read(scan_in_order(folder.path, files), read_options(config, AvazuX4Options).item, None, None)


def _read(source: RawTable, item: str, user: str | None, time: str | None) -> Log:
    columns = ColumnsConfig(
        user=user,
        time=time,
        time_unit=HOUR if time else "s",
        item=one_of("item", item, CATEGORIES),
        tasks={"click": "click"},
        categorical=[*(name for name in CATEGORIES if name not in (item, user)), *CLOCK],
    )
    needs = ("click", "hour", *CATEGORIES)
    events = EventReader(source, columns, sort=time is not None, prepare=_with_clock, needs=needs)
    return Log(events.mapped()[0], events.chunks, None, str(source.path))


def _with_clock(chunk: pl.DataFrame) -> pl.DataFrame:
    """Return the chunk with the hour of the day, 0 to 23, and the day of the week, 1 for Monday."""
    day = pl.col("hour").str.slice(0, 6).str.to_date("%y%m%d", strict=False)
    hour = pl.col("hour").str.slice(6, 2).cast(pl.Int64, strict=False)
    return chunk.with_columns(hour_of_day=hour, weekday=day.dt.weekday())
