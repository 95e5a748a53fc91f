"""Taobao's ad display and click log as Alibaba publishes it (https://tianchi.aliyun.com/dataset/56).

raw_sample.csv: user, time_stamp (seconds since 1970), adgroup_id, pid (the place), nonclk, clk; 6 to 13 May 2017 in
China's time. ad_feature.csv: about the ads. user_profile.csv: about most users; the last name in its header ends with a
space. behavior_log.csv: what users did in the 22 days until then, by category and brand, not by ad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Counts
from recdistill.data.readers.files import scan_csv
from recdistill.data.readers.options import read_options
from recdistill.data.readers.period import Period
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader, behavior_rows, notes_of
from recdistill.tables.schema import EventSchema

__all__ = ["TaobaoAdsOptions", "read_taobao_ads"]

SHOWN = ("user", "time_stamp", "adgroup_id", "pid", "clk")
AD = ("cate_id", "campaign_id", "customer", "brand")
USER = (
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)
DAYS = Period(
    "time_stamp", 1_492_790_400, 1_494_691_200, "taobao-ads: actions before 22 April or after 13 May 2017 left out"
)
NONE = "NULL"  # the brand of an ad without one


@dataclass(frozen=True)
class TaobaoAdsOptions:
    """item: the ad (adgroup_id), or its category (cate_id), of which behavior_log.csv makes the histories."""

    item: Literal["adgroup_id", "cate_id"] = "adgroup_id"


def read_taobao_ads(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the ads shown in time order, task click, with what is known of ad and user.

    With categories as items behaviors are the actions on them. Rows without a usable item are left out and counted.
    Sorting needs the rows in memory. Raises UserError for a folder without the files.
    """
    item = read_options(config, TaobaoAdsOptions).item
    source = scan_csv([folder.file("shown")])
    ads = scan_csv([folder.file("ads")]).frame.select("adgroup_id", *AD, "price").collect()
    ads = ads.with_columns(pl.col("brand").replace(NONE, None))
    users = scan_csv([folder.file("users")]).frame.rename(str.strip).select("userid", *USER).collect()

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        return chunk.join(ads, on="adgroup_id", how="left", maintain_order="left").join(
            users, left_on="user", right_on="userid", how="left", maintain_order="left"
        )

    columns = ColumnsConfig(
        time="time_stamp",
        user="user",
        item=item,
        tasks={"click": "clk"},
        categorical=["pid", *(name for name in ("adgroup_id", *AD) if name != item), *USER],
        numeric=["price"],
    )
    events = EventReader(source, columns, sort=True, prepare=prepare, needs=SHOWN, drop_missing=True)
    schema, counts = events.mapped()[0], Counts()
    return Log(
        schema,
        events.chunks,
        _actions(folder, schema, counts) if item == "cate_id" else None,
        str(source.path),
        (*AD, "price") if item == "adgroup_id" else (),
        notes=lambda: [*events.notes(), *notes_of(counts)],
    )


def _actions(folder: PublishedFolder, schema: EventSchema, counts: Counts) -> Callable[[], Iterator[pl.DataFrame]]:
    source = scan_csv([folder.file("actions")])
    acted = BehaviorsConfig(path="", time="time_stamp", user="user", item="cate", action="btag")
    needs = ("user", "time_stamp", "btag", "cate")
    return lambda: behavior_rows(source, acted, schema, lambda chunk: DAYS.kept(chunk, counts), needs, counts)
