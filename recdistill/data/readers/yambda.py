"""Yambda as Yandex publishes it (https://huggingface.co/datasets/yandex/yambda, README; 2505.22238), in its flat form.

flat/50m, 500m or 5b: multi_event.parquet, and each kind of event by itself (listens.parquet, likes.parquet). Columns:
uid, timestamp (seconds from a start that is not published, in steps of 5), item_id, is_organic, event_type,
played_ratio_pct, track_length_seconds; the last two of listens alone. Sorted by user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig, TaskColumn
from recdistill.data.readers.base import Log
from recdistill.data.readers.options import read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader, behavior_rows
from recdistill.data.readers.scan import scan_file

__all__ = ["YambdaOptions", "read_yambda"]

LENGTH = "track_length_seconds"
LISTEN = pl.col("event_type").cast(pl.String) == "listen"


@dataclass(frozen=True)
class YambdaOptions:
    """events: the file that is read; at_least: percent of the track that were played, from which on it was listened to,
    as the authors count it (likes.parquet has likes alone).
    """

    events: Literal["multi_event", "listens", "likes"] = "multi_event"
    at_least: float = 50.0


def read_yambda(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the listens in time order, task listened, with the track's length and who chose it (is_organic); of
    likes.parquet the likes, all positive. Behaviors are all events of multi_event.parquet.

    Sorting needs the columns in memory. Raises UserError for a folder without the file, or with those of several sizes.
    """
    options = read_options(config, YambdaOptions)
    every = scan_file(folder.file(options.events))
    many, likes = options.events == "multi_event", options.events == "likes"
    listened = TaskColumn(column="played_ratio_pct", at_least=options.at_least)
    columns = ColumnsConfig(
        time="timestamp",
        user="uid",
        tasks={"like": 1} if likes else {"listened": listened},
        categorical=["is_organic"],
        numeric=[] if likes else [LENGTH],
    )
    events = EventReader(every.where(LISTEN) if many else every, columns, sort=True)
    schema = events.mapped()[0]
    acted = BehaviorsConfig(path="", time="timestamp", user="uid", action="event_type")
    behaviors: Callable[[], Iterator[pl.DataFrame]] = lambda: behavior_rows(every, acted, schema)  # noqa: E731
    return Log(schema, events.chunks, behaviors if many else None, str(every.path), () if likes else (LENGTH,))
