"""EB-NeRD, news of Ekstra Bladet, as its authors publish it (https://recsys.eb.dk/dataset, 2410.03432).

A bundle (ebnerd_demo, _small, _large) holds train and validation, a week each, with behaviors.parquet (an impression a
row: the articles in view, shuffled, and those clicked) and history.parquet (per user the clicks of the three weeks
before that week), and articles.parquet. Times name no zone; UTC is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Counts
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.options import read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader, behavior_rows
from recdistill.data.readers.scan import scan_file
from recdistill.tables.schema import EventSchema

__all__ = ["EbNerdOptions", "read_eb_nerd"]

VIEW, CLICKED = "article_ids_inview", "article_ids_clicked"
CONTEXT = ("device_type", "is_sso_user", "gender", "postcode", "age")
ARTICLE = ("category", "article_type", "premium", "sentiment_label")
LISTS = ("subcategory", "topics")
USER, TIME = "user_id", "impression_time"
HISTORY = {"item": "article_id_fixed", TIME: "impression_time_fixed"}
IMPRESSIONS = 16_384  # to a chunk; one shows 11 articles on average, at most about 100
UNSEEN = "eb-nerd: clicks on articles that were not in view left out"


@dataclass(frozen=True)
class EbNerdOptions:
    """split: whose week is read."""

    split: Literal["train", "validation"] = "train"


def read_eb_nerd(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return every article in view as a sample, one request per impression; behaviors are the histories and the clicks.

    What is measured after the impression (read times, scrolling), totals of an article's first week, and subscriptions,
    which are those of the day when the log was made, are not read. Clicks on articles that were not in view are left
    out and counted. Sorting needs the impressions in memory. Raises UserError for a folder without the files.
    """
    split = read_options(config, EbNerdOptions).split
    source = scan_file(folder.file(split))
    histories = scan_file(folder.file(f"{split} history"))
    about = scan_file(folder.file("articles")).frame.select(*ARTICLE, *LISTS, item="article_id").collect()
    counts = Counts()

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        return _shown(chunk, counts).join(about, on="item", how="left", maintain_order="left")

    columns = ColumnsConfig(
        time=TIME,
        item="item",
        request="impression_id",
        tasks={"click": "clicked"},
        categorical=[*CONTEXT, *ARTICLE],
        lists=dict.fromkeys(LISTS, ","),
    )
    needs = ("impression_id", USER, TIME, *CONTEXT, VIEW, CLICKED)
    events = EventReader(
        source, columns, sort=True, prepare=prepare, needs=needs, rows=IMPRESSIONS, drop_missing=True, counts=counts
    )
    schema = events.mapped()[0]
    return Log(
        schema,
        events.chunks,
        lambda: _behaviors(histories, source, schema),
        str(source.path),
        (*ARTICLE, *LISTS),
        notes=events.notes,
    )


def _shown(chunk: pl.DataFrame, counts: Counts) -> pl.DataFrame:
    """Return a row per article in view, with `clicked`; count the clicks on others."""
    unseen = pl.col(CLICKED).list.set_difference(VIEW).list.len().sum()
    if len(chunk) and (found := int(chunk.select(unseen).item())):
        counts[UNSEEN] += found
    shown = chunk.with_columns(item=VIEW).explode("item")
    return shown.with_columns(clicked=pl.col(CLICKED).list.contains(pl.col("item")).cast(pl.Float32))


def _behaviors(histories: RawTable, source: RawTable, schema: EventSchema) -> Iterator[pl.DataFrame]:
    """Yield the clicks of the weeks before, then those of the log, each in time order."""
    columns = BehaviorsConfig(path="", time=TIME, item="item")
    clicks = histories.frame.select(USER, **HISTORY).explode(*HISTORY)
    before = RawTable(histories.path, clicks, dict(clicks.collect_schema()))
    for rows in behavior_rows(before, columns, schema):
        yield rows.with_columns(action=pl.lit("click"))
    for rows in behavior_rows(source, columns, schema, _clicked, (USER, TIME, CLICKED)):
        yield rows.with_columns(action=pl.lit("click"))


def _clicked(chunk: pl.DataFrame) -> pl.DataFrame:
    return chunk.with_columns(item=CLICKED).explode("item").drop_nulls("item")
