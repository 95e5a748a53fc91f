"""The Open Bandit Dataset as ZOZO publishes it (https://github.com/st-tech/zr-obp/tree/master/obd, README;
https://research.zozo.com/data.html; Saito et al., 2008.07146).

bts or random (the policy) / all, men or women (the campaign) / all.csv: a row's number, timestamp in UTC, item_id,
position (1 to 3), click, propensity_score, user_feature_0 to 3 and user-item_affinity_ of every item; item_context.csv
next to it: item_feature_0 (a number) to 3. Hashes differ from campaign to campaign.
"""

from __future__ import annotations

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import scan_csv
from recdistill.data.readers.options import NoOptions, read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader

__all__ = ["read_open_bandit"]

USER = tuple(f"user_feature_{k}" for k in range(4))
ITEM = tuple(f"item_feature_{k}" for k in range(4))
AFFINITY = "user-item_affinity_"


def read_open_bandit(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the items shown in time order, task click, without users: four hashes describe them, and thousands share
    one.

    affinity is that of the item shown. propensity_score, the policy's own probability, is no feature: under bts it is
    a model's forecast of the label. Sorting, where a file is out of order, needs it in memory. Raises UserError for a
    folder without the files, or with those of several policies or campaigns.
    """
    read_options(config, NoOptions)
    source = scan_csv([folder.file("shown")])
    items = scan_csv([folder.file("items")]).frame.select("item_id", *ITEM).collect()
    affinities = [name for name in source.kinds if name.startswith(AFFINITY)]
    of_item = pl.coalesce(
        pl.when(pl.col("item_id") == name.removeprefix(AFFINITY)).then(pl.col(name)) for name in affinities
    )

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        known = chunk.with_columns(affinity=of_item).drop(affinities)
        return known.join(items, on="item_id", how="left", maintain_order="left")

    columns = ColumnsConfig(
        time="timestamp",
        time_unit="iso",
        user=None,
        tasks={"click": "click"},
        categorical=["position", *USER, *ITEM[1:]],
        numeric=["affinity", ITEM[0]],
    )
    needs = ("timestamp", "item_id", "position", "click", *USER, *affinities)
    events = EventReader(source, columns, sort=True, prepare=prepare, needs=needs)
    return Log(events.mapped()[0], events.chunks, None, str(source.path), ITEM)
