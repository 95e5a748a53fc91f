"""KuaiRand-Pure, -1K and -27K as their authors publish them (https://github.com/chongminggao/KuaiRand, README).

data/log_standard_*.csv and log_random_*.csv (a random video put in its place), user_features_*.csv,
video_features_basic_*.csv; 27K comes in parts. Times are milliseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.files import scan_csv
from recdistill.data.readers.options import read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.rows import EventReader

__all__ = ["KuaiRandOptions", "read_kuairand"]

LOG = ("user_id", "video_id", "time_ms", "is_click", "long_view", "duration_ms", "tab", "is_rand")
USER = (
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{k}" for k in range(18)),
)
VIDEO = ("author_id", "video_type", "upload_type", "music_id", "tag")


@dataclass(frozen=True)
class KuaiRandOptions:
    """logs: what the recommender chose (standard), what chance chose (random), or both, as the users saw them (all)."""

    logs: Literal["all", "standard", "random"] = "all"


def read_kuairand(config: DataConfig, folder: PublishedFolder) -> Log:
    """Return the views in time order, tasks is_click and long_view, features of user and video joined.

    Sorting needs the log in memory, the join the videos' features: 27K is for a large machine. UserError
    for a folder without the files.
    """
    chosen = read_options(config, KuaiRandOptions).logs
    kinds = ("standard", "random") if chosen == "all" else (chosen,)
    source = scan_csv(folder.files(*kinds))
    users = _features(folder.files("users"), "user_id", USER)
    videos = _features(folder.files("videos"), "video_id", VIDEO)

    def prepare(chunk: pl.DataFrame) -> pl.DataFrame:
        return chunk.join(users, on="user_id", how="left", maintain_order="left").join(
            videos, on="video_id", how="left", maintain_order="left"
        )

    columns = ColumnsConfig(
        time="time_ms",
        time_unit="ms",
        user="user_id",
        item="video_id",
        tasks={"is_click": "is_click", "long_view": "long_view"},
        categorical=["tab", "is_rand", *USER, *VIDEO[:-1]],
        numeric=["duration_ms"],
        lists={"tag": ","},
    )
    events = EventReader(source, columns, sort=True, prepare=prepare, needs=LOG)
    return Log(events.mapped()[0], events.chunks, None, str(source.path), (*VIDEO, "duration_ms"))


def _features(paths: list[Path], key: str, columns: tuple[str, ...]) -> pl.DataFrame:
    return scan_csv(paths).frame.select(key, *columns).collect()
