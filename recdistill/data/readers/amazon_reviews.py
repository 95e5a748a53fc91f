"""Amazon Reviews 2023 as the McAuley Lab publishes it (https://amazon-reviews-2023.github.io, Hou et al., 2403.03952).

JSON lines, a file to a category (All_Beauty.jsonl, or packed): rating, title, text, images, asin, parent_asin, user_id,
timestamp in milliseconds since 1970, helpful_vote, verified_purchase. meta_*.jsonl next to them are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from glob import escape

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig, TaskColumn
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import RawTable, reading, refuse_empty
from recdistill.data.readers.options import read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader

__all__ = ["AmazonReviewsOptions", "read_amazon_reviews"]

FIELDS = {
    "user_id": pl.String(),
    "parent_asin": pl.String(),
    "rating": pl.Float64(),
    "timestamp": pl.Int64(),
    "verified_purchase": pl.Boolean(),
}


@dataclass(frozen=True)
class AmazonReviewsOptions:
    """at_least: ratings from here on are liked (label 1), the others not."""

    at_least: float = 4.0


def read_amazon_reviews(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the reviews in time order; the item is the parent product, whose variants share their reviews.

    Votes for a review come after it, so they are no feature. Rows without a usable time are left out and counted.
    Sorting needs the columns in memory. Raises UserError for a folder without such files.
    """
    options = read_options(config, AmazonReviewsOptions)
    paths = folder.files("reviews")
    with reading(paths[0]):
        for path in paths:
            refuse_empty(path)
        frame = pl.scan_ndjson([escape(str(path)) for path in paths], schema=dict.fromkeys(FIELDS, pl.String()))
        source = RawTable(paths[0] if len(paths) == 1 else paths[0].parent, frame, FIELDS)
    columns = ColumnsConfig(
        time="timestamp",
        time_unit="ms",
        item="parent_asin",
        tasks={"like": TaskColumn(column="rating", at_least=options.at_least)},
        categorical=["verified_purchase"],
    )
    events = EventReader(source, columns, sort=True, drop_missing=True)
    return Log(events.mapped()[0], events.chunks, None, str(source.path), notes=events.notes)
