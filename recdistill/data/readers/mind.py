"""MIND as Microsoft publishes it (https://github.com/msnews/msnews.github.io/blob/master/assets/doc/introduction.md).

One split's folder: behaviors.tsv (impression id, user, time like 11/11/2019 9:05:58 AM, history, impressions like "N1-1
N2-0"; without -0 and -1 in the test split) and news.tsv, both without header and quotes. Times name no zone; UTC is
taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Kind
from recdistill.data.readers.files import ROW, RawTable, scan_text
from recdistill.data.readers.options import NoOptions, read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader, behavior_rows
from recdistill.data.readers.times import time_column
from recdistill.tables.schema import EventSchema

__all__ = ["read_mind"]

TEXT = pl.String()
BEHAVIORS = {"impression": pl.Int64(), "user": TEXT, "time": TEXT, "history": TEXT, "impressions": TEXT}
NEWS = ("item", "category", "subcategory", "title", "abstract", "url", "title entities", "abstract entities")
CLOCK = "%m/%d/%Y %I:%M:%S %p"
IMPRESSIONS = 8_192  # to a chunk; one shows 37 articles on average, at most about 300


def read_mind(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return every article shown as a sample, one request per impression; behaviors are the histories and the clicks.

    An article's place in a user's history is all that is published, so histories stand before the log, a second apart.
    Sorting needs the impressions in memory. Raises UserError for a folder without the two files.
    """
    read_options(config, NoOptions)
    source = scan_text(folder.file("impressions"), BEHAVIORS, "\t")
    news = scan_text(folder.file("articles"), dict.fromkeys(NEWS, TEXT), "\t").frame
    about = news.select("item", "category", "subcategory").collect()
    columns = ColumnsConfig(
        time="time",
        time_unit=CLOCK,
        user="user",
        item="item",
        request="impression",
        tasks={"click": "clicked"},
        categorical=["category", "subcategory"],
    )

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        return _shown(chunk).join(about, on="item", how="left", maintain_order="left")

    events = EventReader(
        source,
        columns,
        sort=True,
        prepare=prepare,
        needs=("impression", "user", "time", "impressions"),
        rows=IMPRESSIONS,
    )
    schema, _ = events.mapped()
    return Log(schema, events.chunks, lambda: _behaviors(source, schema), str(source.path), ("category", "subcategory"))


def _shown(chunk: pl.DataFrame) -> pl.DataFrame:
    """Return a row per article shown: `item`, and `clicked` as text, null where the split keeps it back."""
    shown = chunk.with_columns(pl.col("impressions").str.split(" ")).explode("impressions")
    parts = pl.col("impressions").str.splitn("-", 2).struct
    return shown.with_columns(item=parts.field("field_0"), clicked=parts.field("field_1")).drop("impressions")


def _behaviors(source: RawTable, schema: EventSchema) -> Iterator[pl.DataFrame]:
    """Yield the articles of every user's first history, then the clicks of the log, in time order."""
    time = time_column("time", CLOCK, Kind(TEXT, TEXT))
    first = source.frame.with_row_index(ROW).sort(time.value, ROW).unique("user", keep="first", maintain_order=True)
    start = source.frame.select(time.value.min()).collect().item()
    histories = first.select("user", item=pl.col("history").str.split(" ")).collect()
    back = pl.int_ranges(pl.col("item").list.len().cast(pl.Int64), 0, -1)
    rows = histories.filter(pl.col("item").list.len() > 0).with_columns(back=back).explode("item", "back")
    yield rows.select(
        user_id="user", item_id="item", time=pl.lit(start) - pl.duration(seconds="back"), action=pl.lit("click")
    ).sort("time", maintain_order=True)
    columns = BehaviorsConfig(path="", time="time", time_unit=CLOCK, user="user", item="item", action=None)
    for chunk in behavior_rows(
        source,
        columns,
        schema,
        lambda raw: _shown(raw).filter(pl.col("clicked") == "1"),
        needs=("user", "time", "impressions"),
    ):
        yield chunk.with_columns(action=pl.lit("click"))
