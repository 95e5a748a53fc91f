"""Small logs for samplers of rows: chunks cut anywhere, columns from which item and row can be read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from recdistill.data.readers.base import Log
from recdistill.tables.schema import EventSchema

__all__ = ["HOUR", "SCHEMA", "log_of", "positives", "whole"]

SCHEMA = EventSchema(("click", "buy"), {"device": "int64", "topic": "int64"}, keep_rates={"click": (0.5, 1.0)})
HOUR = 3_600_000_000


def log_of(time: np.ndarray, user: np.ndarray, item: np.ndarray, label: np.ndarray, cuts: tuple[int, ...] = ()) -> Log:
    """Return a log of these rows, cut into chunks before the rows `cuts`; topic and device show item and row."""
    n = len(time)
    rows = pl.DataFrame(
        {
            "sample_id": np.arange(n),
            "time": pl.Series(time, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "user_id": user,
            "item_id": item,
            "feature_device": np.arange(n),
            "feature_topic": item * 7,
            "label_click": label,
            "label_buy": np.ones(n),
        },
        schema=SCHEMA.columns(),
        strict=False,
    )

    def batches() -> Iterator[pl.DataFrame]:
        for low, high in zip((0, *cuts), (*cuts, n), strict=True):
            if high > low:
                yield rows[low:high]

    return Log(SCHEMA, batches, None, "here", ("topic",))


def positives(events: list[tuple[int, int, int]], cuts: tuple[int, ...] = ()) -> Log:
    """Return a log of positives: (tenths of an hour, user, item) each."""
    time, user, item = np.array(sorted(events, key=lambda e: e[0]), np.int64).reshape(-1, 3).T
    return log_of(time * HOUR // 10, user, item, np.ones(len(time)), cuts)


def whole(log: Log) -> pl.DataFrame:
    """Return all rows of a log."""
    return pl.concat([pl.DataFrame(schema=log.schema.columns()), *log.batches()])
