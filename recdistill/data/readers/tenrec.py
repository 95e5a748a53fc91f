"""Tenrec as Tencent publishes it (https://github.com/yuangh-x/2022-NIPS-Tenrec, README; Yuan et al., 2210.10629; the
Readme.txt of the download).

QB-video.csv, QK-video.csv, and sbr_data_1M.csv and ctr_data_1M.csv made of the latter: user_id, item_id, click, follow,
like, share, video_category, watching_times, gender, age; the last also hist_1 to hist_10. No times: users follow one
another, and a user's rows are in their order. What is not known is \\N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import scan_csv
from recdistill.data.readers.options import read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader

__all__ = ["TenrecOptions", "read_tenrec"]

TASKS = ("click", "follow", "like", "share")
FEATURES = ("video_category", "gender", "age")
NONE = "\\N"


@dataclass(frozen=True)
class TenrecOptions:
    """log: which of the files is read."""

    log: Literal["QB-video", "QK-video", "sbr_data_1M", "ctr_data_1M"] = "QB-video"


def read_tenrec(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the videos shown in the order of the file, without times: tasks click, follow, like and share.

    watching_times comes after the click, and hist_1 to hist_10 are a user's first clicks, also for rows before them:
    neither is read. Memory is flat. Raises UserError for a folder without the file.
    """
    source = scan_csv([folder.file(read_options(config, TenrecOptions).log)])
    named = ("user_id", "item_id", *TASKS, *FEATURES)
    columns = ColumnsConfig(
        time=None,
        tasks={task: task for task in TASKS},
        categorical=list(FEATURES),
        dtypes=dict.fromkeys(FEATURES, "text"),
    )
    events = EventReader(
        source, columns, prepare=lambda chunk: chunk.with_columns(pl.col(named).replace(NONE, None)), needs=named
    )
    return Log(events.mapped()[0], events.chunks, None, str(source.path), ("video_category",))
