"""Rows of the tables as events of histories: who, what, when, since when it counts, and how it ended.

Both functions give the columns user (text), item, time, known (us since 1970) and action, as training has them.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recdistill.data.store.encoder import known_times
from recdistill.data.store.label_order import NEVER, LabelClock
from recdistill.tables.schema import EventSchema

__all__ = ["NEGATIVE", "OUTCOMES", "POSITIVE", "events_of_behaviors", "events_of_samples", "sample_columns"]

OUTCOMES = NEGATIVE, POSITIVE = "negative", "positive"  # the actions of histories that are made of samples


def sample_columns(schema: EventSchema) -> list[str]:
    """Return the columns of samples that histories are made of."""
    task = schema.tasks[0]
    times = [f"label_time_{task}"] if task in schema.label_times else []
    return ["sample_id", "time", "user_id", "item_id", f"label_{task}", *times]


def events_of_behaviors(rows: pl.DataFrame) -> pl.DataFrame:
    """Return behaviors as events: they are known when they happen."""
    time = pl.col("time").dt.epoch("us")
    return rows.select(user=pl.col("user_id").cast(pl.String), item="item_id", time=time, known=time, action="action")


def events_of_samples(rows: pl.DataFrame, schema: EventSchema, clock: LabelClock) -> pl.DataFrame:
    """Return samples as events, with the outcome of the first task; see `LabelClock.history_events`."""
    task = schema.tasks[0]
    rule, label = schema.rule(task), rows[f"label_{task}"].fill_null(np.nan).to_numpy()
    time = rows["time"].dt.epoch("us").to_numpy()
    of, known, outcome = clock.history_events(
        time, label if rule is None else rule.learned(label), known_times(rows, schema)[:, 0]
    )
    shown = rows.select(user=pl.col("user_id").cast(pl.String), item="item_id")[of]
    made = shown.with_columns(
        time=pl.Series(time[of]),
        known=pl.Series(known),
        action=pl.Series(outcome).cast(pl.Int64).replace_strict([0, 1], OUTCOMES, return_dtype=pl.String),
    )
    return made.filter(pl.col("known") < NEVER)
