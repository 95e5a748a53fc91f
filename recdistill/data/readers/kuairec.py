"""KuaiRec as its authors publish it (https://github.com/chongminggao/KuaiRec, README; Gao et al., CIKM 2022).

data/big_matrix.csv or small_matrix.csv (nearly every user with every video), and item_categories.csv with tags as
"[27, 9]". Times are seconds since 1970, with fractions; some views have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig, TaskColumn
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import scan_csv
from recdistill.data.readers.options import read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader

__all__ = ["KuaiRecOptions", "read_kuairec"]

LOG = ("user_id", "video_id", "timestamp", "video_duration", "watch_ratio")


@dataclass(frozen=True)
class KuaiRecOptions:
    """matrix: which table of views; at_least: share of the video that was watched, from which on it is liked."""

    matrix: Literal["big", "small"] = "big"
    at_least: float = 2.0


def read_kuairec(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the views in time order, with the video's tags and length; views without a time are left out and counted.

    Sorting needs the views in memory. Raises UserError for a folder without the files.
    """
    options = read_options(config, KuaiRecOptions)
    source = scan_csv([folder.file(options.matrix)])
    categories = scan_csv([folder.file("tags")]).frame.collect()
    tags = categories.select("video_id", tags=pl.col("feat").str.strip_chars("[] ").str.replace_all(" ", ""))

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        return chunk.join(tags, on="video_id", how="left", maintain_order="left")

    columns = ColumnsConfig(
        time="timestamp",
        item="video_id",
        tasks={"like": TaskColumn(column="watch_ratio", at_least=options.at_least)},
        numeric=["video_duration"],
        lists={"tags": ","},
    )
    events = EventReader(source, columns, sort=True, prepare=prepare, needs=LOG, drop_missing=True)
    schema = events.mapped()[0]
    return Log(schema, events.chunks, None, str(source.path), ("tags", "video_duration"), notes=events.notes)
