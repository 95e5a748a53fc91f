"""What is wrong with single rows, so that they alone are left out. A reason names the column and no value:
reasons stay few.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from recdistill.stream.sources.wire import Kind
from recdistill.tables.schema import EventSchema
from recdistill.tables.validation import EARLY, odd_vector, value_rules

__all__ = ["SKEW", "row_faults"]

# That a producer's clock may be ahead: a time further on would move the watermark for all others.
SKEW = timedelta(minutes=5)


def row_faults(rows: pl.DataFrame, kind: Kind, schema: EventSchema) -> pl.Series:
    """Return the reason why each row cannot be taken, null where it can."""
    checks = [*_times(), *{"events": _events, "behaviors": _behaviors, "outcomes": _outcomes}[kind](schema)]
    reason = pl.coalesce(
        pl.when(bad.fill_null(False)).then(pl.lit(f"column '{column}': {why}")) for column, why, bad in checks
    )
    return rows.select(reason.alias("reason")).to_series()


Check = tuple[str, str, pl.Expr]


def _empty(*columns: str) -> list[Check]:
    return [(column, "must not be empty", pl.col(column).is_null()) for column in columns]


def _times() -> list[Check]:
    soon = datetime.now(UTC) + SKEW
    return [
        *_empty("time"),
        ("time", "lies in the future; check the producer's clock and time unit", pl.col("time") > pl.lit(soon)),
        ("time", EARLY, pl.col("time").to_physical() < 0),
    ]


def _events(schema: EventSchema) -> list[Check]:
    drawn = _drawn() if schema.corrected else []  # models are corrected by how probable each draw was
    vectors = [
        (name, f"must hold {width} finite numbers or nothing", odd_vector(name, width))
        for name, width in schema.row_vector_widths.items()
    ]
    return [*_empty("sample_id", "user_id", "item_id"), *value_rules(schema), *drawn, *vectors]


def _drawn() -> list[Check]:
    log_q = pl.col("log_q")
    return [
        *_empty("log_q"),
        ("log_q", "must be the logarithm of a probability", ~(log_q.is_finite() & (log_q <= 0))),
    ]


def _behaviors(schema: EventSchema) -> list[Check]:
    return _empty("user_id", "item_id", "action")


def _outcomes(schema: EventSchema) -> list[Check]:
    tasks = schema.tasks
    return [
        *_empty("sample_id", "task", "label"),
        ("task", f"must be one of {', '.join(tasks)}", ~pl.col("task").is_in(tasks)),
        ("label", "must be 0 or 1", ~pl.col("label").is_in([0.0, 1.0])),
    ]
