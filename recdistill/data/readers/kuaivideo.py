"""KuaiVideo_x1, Kuaishou's log of the China MM 2018 competition in the split that BARS publishes
(https://github.com/reczoo/Datasets/tree/main/KuaiShou/KuaiVideo_x1, README and convert_kuaivideo_x1.py).

train.csv, test.csv: timestamp, user_id, item_id, is_click, is_like, is_follow, pos_items, neg_items. Times were moved,
so that only their order is known, and no unit is given.
"""

from __future__ import annotations

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.options import NoOptions, read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader
from recdistill.data.readers.scan import scan_in_order

__all__ = ["read_kuaivideo"]

UNITS = {1e14: "us", 1e11: "ms"}  # counts from here on are no seconds: 1e11 are more than 3,000 years


def read_kuaivideo(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the videos previewed in time order, tasks click, like and follow; no features but the ids are published.

    pos_items and neg_items are not read: they are the first 100 videos of a user, not the last, and histories hold the
    same videos. Sorting needs the rows in memory. Raises UserError for a folder without the two files.
    """
    read_options(config, NoOptions)
    source = scan_in_order(folder.path, [folder.file("train"), folder.file("test")])
    columns = ColumnsConfig(
        time="timestamp",
        time_unit=_unit(source),
        tasks={task: f"is_{task}" for task in ("click", "like", "follow")},
    )
    events = EventReader(source, columns, sort=True)
    return Log(events.mapped()[0], events.chunks, None, str(source.path))


def _unit(source: RawTable) -> str:
    """Return the unit that the size of the first count suggests; only distances depend on it."""
    first = source.frame.select(pl.col("timestamp").cast(pl.Float64, strict=False)).head(1).collect()
    count = first.item() if len(first) else None
    return next((unit for least, unit in UNITS.items() if count is not None and count >= least), "s")
