"""Types that every table shares."""

from __future__ import annotations

import polars as pl

__all__ = ["TIME"]

TIME = pl.Datetime("us", "UTC")
