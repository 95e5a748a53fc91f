"""A log, as a file or as a frame, with the columns that mean something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.config.load import checked
from recdistill.data.readers.columns import kinds_of
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.iceberg import path_of
from recdistill.data.readers.mapping import event_schema
from recdistill.data.readers.new_rows import source_of
from recdistill.runs.folder import fingerprint

__all__ = ["Log", "digest", "read_log"]


@dataclass(frozen=True)
class Log:
    """Where samples come from. config: `data` of the experiment file; frame: the table itself, where it is no file."""

    config: DataConfig
    frame: pl.DataFrame | None = None


def read_log(
    source: Any, *, user: str | None, item: str, time: str | None, labels: Mapping[str, Any], **more: Any
) -> Log:
    """Return the log of a Parquet, CSV, Delta or Iceberg path, of a table of pyiceberg as it is now, or of a polars,
    pandas or Arrow frame. Nothing is copied yet.

    user, item, time: names of columns; user and time may be None where the log has none. labels: task -> column of 0
    and 1, or {"column": name, "at_least": number} or what else the experiment file takes as a task.
    more: `time_unit` (s, ms, us, ns, iso or a pattern, for times that are numbers or text), `sample_id`, `request`,
    `label_times`, `weight`, `categorical`, `numeric`, `lists`, `sequences`, `dtypes`, and the other keys of `data` in
    the experiment file (`header`, `separator`, `behaviors`, `items`, `users`, `vectors`, `drop_missing`, `sort`,
    `limit`, `negatives`, `keep_rates`, `sampling`).
    Raises UserError for a column that is not there.
    """
    columns = {"user": user, "item": item, "time": time, "tasks": dict(labels)}
    columns |= {key: more.pop(key) for key in ColumnsConfig.model_fields if key in more}
    if (there := path_of(source)) is not None:
        path, frame = str(there.resolve()), None
    else:
        frame = source_of(source).frame.collect()
        path = f"log-{digest(frame)}.parquet"
    config = checked(DataConfig, {"path": path, "columns": columns, **more}, "read_log")
    if frame is None:
        open_log(config, None)
    else:
        event_schema(kinds_of(frame.schema), config.columns, Path("the frame"))
    return Log(config, frame)


def digest(frame: pl.DataFrame) -> str:
    """Return 12 hexadecimal digits of a frame: of its columns, their types, and its rows in their order."""
    rows = frame.with_row_index("row of the frame").hash_rows(seed=1).sum() if len(frame) else 0
    return fingerprint(len(frame), {name: str(kind) for name, kind in frame.schema.items()}, rows)
