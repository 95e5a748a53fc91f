"""The trivago log of the RecSys Challenge 2019 (https://github.com/recsyschallenge/2019, docs/problem_definition.md).

train.csv: a row per action; a clickout carries the list that was shown (impressions, prices, joined by '|').
item_metadata.csv: properties of the hotels, likewise joined. Times are seconds since 1970.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import ROW, scan_csv
from recdistill.data.readers.options import NoOptions, read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader, behavior_rows
from recdistill.errors import UserError

__all__ = ["read_trivago"]

CONTEXT = ("platform", "city", "device")
SHOWN = ("user_id", "timestamp", "reference", *CONTEXT, "current_filters", "impressions", "prices")
CLICKOUT = pl.col("action_type") == "clickout item"
HOTEL = (
    CLICKOUT | (pl.col("action_type") == "search for item") | pl.col("action_type").str.starts_with("interaction item")
)
LISTS = 16_384  # result lists to a chunk, at most 25 hotels each


def read_trivago(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return every hotel of every clickout's list as a sample, one request per list; behaviors are all actions on a
    hotel.

    The label is 1 for the hotel clicked, unknown where it is kept back. Sorting needs the clickouts in memory. Raises
    UserError for a folder without the files, or a list that has not as many prices as hotels.
    """
    read_options(config, NoOptions)
    source = scan_csv([folder.file("actions")])
    hotels = scan_csv([folder.file("hotels")]).frame.select("properties", item="item_id").collect()

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        return _shown(chunk, source.path).join(hotels, on="item", how="left", maintain_order="left")

    columns = ColumnsConfig(
        time="timestamp",
        user="user_id",
        item="hotel",
        request="request",
        tasks={"click": "clicked"},
        categorical=[*CONTEXT, "position", "price_rank"],
        numeric=["price"],
        lists={"current_filters": "|", "properties": "|"},
    )
    events = EventReader(source.where(CLICKOUT), columns, sort=True, prepare=prepare, needs=SHOWN, rows=LISTS)
    schema, _ = events.mapped()
    actions = BehaviorsConfig(path="", time="timestamp", user="user_id", item="hotel", action="action_type")
    return Log(
        schema,
        events.chunks,
        lambda: behavior_rows(
            source.where(HOTEL), actions, schema, _acted, needs=("user_id", "timestamp", "reference", "action_type")
        ),
        str(source.path),
        ("properties",),
    )


def _acted(chunk: pl.DataFrame) -> pl.DataFrame:
    """Return the actions whose reference is a hotel's number."""
    return chunk.with_columns(hotel=pl.col("reference").cast(pl.Int64, strict=False))


def _shown(chunk: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return a row per hotel of each list, with its position, price, rank by price (1: cheapest) and
    whether it was clicked.
    """
    lists = chunk.with_columns(pl.col("impressions", "prices").str.split("|"))
    uneven = lists.filter(pl.col("impressions").list.len() != pl.col("prices").list.len())
    if len(uneven):
        raise UserError(f"{path}: row {uneven[ROW][0]}, column 'prices': not as many as 'impressions'")
    position = pl.int_ranges(pl.col("impressions").list.len().cast(pl.Int64))
    shown = lists.with_columns(position=position).explode("impressions", "prices", "position")
    price = pl.col("prices").cast(pl.Float32, strict=False)
    return shown.with_columns(
        item="impressions",
        hotel=pl.col("impressions").cast(pl.Int64, strict=False),
        price="prices",
        request=ROW,
        price_rank=price.rank("min").over(ROW).cast(pl.Int64),
        clicked=(pl.col("impressions") == pl.col("reference")).cast(pl.Float32),
    )
