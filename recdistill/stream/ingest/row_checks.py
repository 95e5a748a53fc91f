"""What is wrong with single rows, so that they alone are left out. A reason names the column and no value:
reasons stay few.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import polars as pl

from recdistill.stream.sources.wire import Kind
from recdistill.tables.sequences import sequence_faults
from recdistill.tables.validation import EARLY

__all__ = ["SKEW", "row_faults"]

# That a producer's clock may be ahead: a time further on would move the watermark for all others.
SKEW = timedelta(minutes=5)


def row_faults(
    rows: pl.DataFrame, kind: Kind, tasks: tuple[str, ...], sequences: Mapping[str, bool] = MappingProxyType({})
) -> pl.Series:
    """Return the reason why each row cannot be taken, null where it can; sequences: see `EventSchema`."""
    checks = [*_times(), *{"events": _events, "behaviors": _behaviors, "outcomes": _outcomes}[kind](tasks)]
    checks += sequence_faults(sequences)
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


def _events(tasks: tuple[str, ...]) -> list[Check]:
    labels = [(f"label_{task}", pl.col(f"label_{task}")) for task in tasks]
    wrong = [(name, "must be 0, 1 or empty", label.is_not_null() & ~label.is_in([0.0, 1.0])) for name, label in labels]
    return [*_empty("sample_id", "user_id", "item_id"), *wrong]


def _behaviors(tasks: tuple[str, ...]) -> list[Check]:
    return _empty("user_id", "item_id", "action")


def _outcomes(tasks: tuple[str, ...]) -> list[Check]:
    return [
        *_empty("sample_id", "task", "label"),
        ("task", f"must be one of {', '.join(tasks)}", ~pl.col("task").is_in(tasks)),
        ("label", "must be 0 or 1", ~pl.col("label").is_in([0.0, 1.0])),
    ]
