"""A log, as a file or as a frame, with the columns that mean something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.config.data import DataConfig
from recdistill.config.load import checked
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.mapping import event_columns
from recdistill.data.readers.new_rows import source_of

__all__ = ["Log", "digest", "read_log"]

COLUMNS = (
    "user",
    "item",
    "time",
    "time_unit",
    "sample_id",
    "request",
    "label_times",
    "categorical",
    "numeric",
    "lists",
)
DATA_ID = 12  # hexadecimal digits that name a frame's file


@dataclass(frozen=True)
class Log:
    """Where samples come from. config: `data` of the experiment file; frame: the table itself, where it is no file."""

    config: DataConfig
    frame: pl.DataFrame | None = None


def read_log(source: Any, *, user: str, item: str, time: str, labels: Mapping[str, Any], **more: Any) -> Log:
    """Return the log of a Parquet, CSV or Delta path, or of a polars, pandas or Arrow frame. Nothing is copied yet.

    user, item, time: names of columns. labels: task -> column of 0 and 1, or {"column": name, "at_least": number}.
    more: `time_unit` (s, ms, us, iso or a pattern, for times that are numbers or text), `sample_id`, `request`,
    `label_times`, `categorical`, `numeric`, `lists`, and the other keys of `data` in the experiment file (`behaviors`,
    `sort`, `limit`, `negatives`, `keep_rates`, `sampling`). Raises UserError for a column that is not there.
    """
    columns = {"user": user, "item": item, "time": time, "tasks": dict(labels)}
    columns |= {key: more.pop(key) for key in COLUMNS if key in more}
    is_path = isinstance(source, str | Path)
    frame = None if is_path else source_of(source).frame.collect()
    path = str(Path(source).resolve()) if is_path else f"log-{digest(frame)}.parquet"
    config = checked(DataConfig, {"path": path, "columns": columns, **more}, "read_log")
    if frame is None:
        open_log(config, None)
    else:
        event_columns(dict(frame.schema), config.columns, Path("the frame"))
    return Log(config, frame)


def digest(frame: pl.DataFrame | None) -> str:
    """Return hexadecimal digits that tell a frame from others: equal frames, equal digits."""
    frame = pl.DataFrame() if frame is None else frame
    total = int(frame.hash_rows(seed=1).sum() or 0) if frame.width else 0
    return f"{(total * 31 + len(frame)) % (1 << 4 * DATA_ID):0{DATA_ID}x}"
