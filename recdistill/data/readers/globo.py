"""Clicks of G1, Globo.com's news portal, as published with CHAMELEON (Moreira et al., DLRS 2018,
10.1145/3270323.3270328).

A folder with clicks/clicks_hour_*.csv (an hour of sessions each) and articles_metadata.csv. Times are milliseconds
since 1970; that of every session's last click is made up, 30 s after the click before it. All rows are clicks: add
`negatives` to the experiment.
"""

from __future__ import annotations

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import scan_csv
from recdistill.data.readers.options import NoOptions, read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader, behavior_rows

__all__ = ["read_globo"]

CONTEXT = ("click_environment", "click_deviceGroup", "click_os", "click_country", "click_region", "click_referrer_type")


def read_globo(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the clicks in time order with category and length of the article; behaviors are the same clicks.

    Sorting needs the clicks in memory. Raises UserError for a folder without the files.
    """
    read_options(config, NoOptions)
    source = scan_csv(folder.files("clicks"))
    articles = scan_csv([folder.file("articles")]).frame.collect()
    about = articles.select("category_id", "words_count", click_article_id="article_id")
    columns = ColumnsConfig(
        time="click_timestamp",
        time_unit="ms",
        user="user_id",
        item="click_article_id",
        tasks={"click": 1},
        categorical=[*CONTEXT, "category_id"],
        numeric=["words_count"],
    )

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        return chunk.join(about, on="click_article_id", how="left", maintain_order="left")

    events = EventReader(
        source, columns, sort=True, prepare=prepare, needs=("user_id", "click_article_id", "click_timestamp", *CONTEXT)
    )
    schema, _ = events.mapped()
    clicks = BehaviorsConfig(path="", time="click_timestamp", time_unit="ms", user="user_id", item="click_article_id")
    return Log(
        schema,
        events.chunks,
        lambda: behavior_rows(source, clicks, schema),
        str(source.path),
        ("category_id", "words_count"),
    )
