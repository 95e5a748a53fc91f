"""The first rows of a log, and what is decided from them once and for all: the buckets and the scales of its numeric
features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from recdistill.data.buckets import fitted_edges
from recdistill.data.readers.base import Log
from recdistill.data.scales import fitted_scale
from recdistill.tables.schema import EventSchema, feature_column

__all__ = ["head_of", "with_scales"]

LOOKED_AT = 262_144  # rows, in memory
SHARE = 10  # of them the first tenth decides: it lies before any row that is scored, unless evaluate.start is lower


def head_of(chunks: Iterator[pl.DataFrame], limit: int) -> Iterator[pl.DataFrame]:
    """Yield the first `limit` rows of a log's chunks, a chunk at a time."""
    for chunk in chunks if limit else ():
        yield chunk.head(limit)
        limit -= len(chunk)
        if limit <= 0:
            return


def with_scales(log: Log) -> tuple[EventSchema, Iterator[pl.DataFrame]]:
    """Return the log's schema with the edges and scales of its numeric features, and its rows; memory O(LOOKED_AT).

    They are chosen from the first tenth of the log's first LOOKED_AT rows, whatever its chunks and however many rows
    are taken of it, so that a stream has those of the batch phase.
    """
    numeric = [name for name, kind in log.schema.features.items() if kind == "float32"]
    chunks = log.batches()
    if not numeric:
        return log.schema, chunks
    held: list[pl.DataFrame] = []
    while sum(map(len, held)) < LOOKED_AT and (chunk := next(chunks, None)) is not None:
        held.append(chunk)
    edges, scales = {}, {}
    if held:
        rows = min(LOOKED_AT, sum(map(len, held)))
        columns = [
            pl.col(feature_column(name)).cast(pl.Float64).fill_null(float("nan")).alias(name) for name in numeric
        ]
        early = pl.concat([chunk.select(columns) for chunk in held]).head(max(rows // SHARE, 1))
        edges = {name: fitted_edges(early[name].to_numpy()) for name in numeric}
        scales = {name: fitted_scale(early[name].to_numpy()) for name in numeric}
    return replace(log.schema, edges=edges, scales=scales), _again(held, chunks)


def _again(held: list[pl.DataFrame], chunks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield and forget the chunks that were held back, then the others."""
    while held:
        yield held.pop(0)
    yield from chunks
