"""Taobao's UserBehavior.csv as Alibaba publishes it (https://tianchi.aliyun.com/dataset/649).

No header: user, item, category, behavior (pv, buy, cart, fav), seconds since 1970. It is published for 25 November to
3 December 2017, in China's time; rows of other times, some of them negative or in the future, are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Counts
from recdistill.data.readers.files import scan_text
from recdistill.data.readers.options import read_options
from recdistill.data.readers.period import Period
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader, behavior_rows, notes_of

__all__ = ["TaobaoOptions", "read_taobao"]

INTEGER, TEXT = pl.Int64(), pl.String()
FIELDS = {"user_id": INTEGER, "item_id": INTEGER, "category": INTEGER, "behavior": TEXT, "timestamp": INTEGER}
DAYS = Period(
    "timestamp", 1_511_539_200, 1_512_316_800, "taobao: rows before 25 November or after 3 December 2017 left out"
)


@dataclass(frozen=True)
class TaobaoOptions:
    """action: which behaviors are the samples; all of them are positives. Histories are made of every behavior."""

    action: Literal["pv", "buy", "cart", "fav"] = "pv"


def read_taobao(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the behaviors of one kind in time order, with the item's category; behaviors are those of every kind.

    All samples are positives: add `negatives` to the experiment. The file stands in the order of users, so sorting
    needs it in memory. Raises UserError for a folder without the file.
    """
    action = read_options(config, TaobaoOptions).action
    source = scan_text(folder.file("actions"), FIELDS, ",")
    columns = ColumnsConfig(time="timestamp", tasks={action: 1}, categorical=["category"])
    counts = Counts()
    events = EventReader(source.where((pl.col("behavior") == action) & DAYS.holds), columns, sort=True)
    schema = events.mapped()[0]
    acted = BehaviorsConfig(path="", time="timestamp", action="behavior")
    needs = ("user_id", "item_id", "behavior", "timestamp")

    def behaviors() -> Iterator[pl.DataFrame]:
        counts.clear()
        return behavior_rows(source, acted, schema, lambda chunk: DAYS.kept(chunk, counts), needs)

    return Log(schema, events.chunks, behaviors, str(source.path), ("category",), notes=lambda: notes_of(counts))
