"""Types that every table shares, and times as they count them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

__all__ = ["EPOCH", "TIME", "moment_of"]

TIME = pl.Datetime("us", "UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_of(time: int) -> datetime:
    """Return the moment of a time in us since 1970."""
    return EPOCH + timedelta(microseconds=int(time))
