"""Which ids of an append are in the table already: the files' statistics first, then their sample ids alone."""

from __future__ import annotations

from typing import Any

import polars as pl

from recdistill.tables.delta.files import Part
from recdistill.tables.delta.log import DeltaLog

__all__ = ["first_known"]


def first_known(
    log: DeltaLog, parts: list[Part], ids: pl.Series, columns: list[str], where: pl.Expr
) -> dict[str, Any] | None:
    """Return sample_id and `columns` of a row of `parts` with one of `ids` for which `where` holds, None when there is
    none.

    A log whose ids rise reads nothing. Raises UserError for a file that cannot be read.
    """
    if not len(ids):
        return None
    low, high = ids.to_numpy().min(), ids.to_numpy().max()
    near = [str(log.path / part.path) for part in parts if part.may_hold(low, high)]
    if not near:
        return None
    # Credentials are those of the environment, as everywhere here: polars would ask a cloud's own package first.
    old = pl.scan_parquet(near, hive_partitioning=False, glob=False, credential_provider=None)
    both = old.filter(where).join(pl.LazyFrame({"sample_id": ids}), on="sample_id", how="semi")
    seen = log.collect(both.select("sample_id").head(1))
    if not len(seen):
        return None
    return log.collect(both.filter(pl.col("sample_id") == seen["sample_id"][0]).select("sample_id", *columns)).row(
        0, named=True
    )
