"""Samples of before the bound whose ids come again, as from a producer that counts from 0, as the rows of a log do that
has no ids.

For most ids the statistics of the table's old files are enough: one beyond their ranges is new. Of a file whose range
holds an id, the ids are read. Files of ids that lie far apart, as hashes do, are passed over: any new one lies within
their range, and none comes twice by counting.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recdistill.stream.ingest.dedupe import BUCKETS
from recdistill.tables.delta.commits import open_delta, parts_of
from recdistill.tables.delta.files import Part, read_parts
from recdistill.tables.events import EventLog
from recdistill.typing import Array

__all__ = ["NEVER", "Earlier"]

NEVER = np.iinfo(np.int64).min // 2
SPARSE = 64  # ids of a file's range to each that it holds, from which on it is passed over


class Earlier:
    """Sample ids in the table of more than `span` us of event time before the newest."""

    def __init__(self, events: EventLog, span: int) -> None:
        self._path, self._span, self._width = events.path, span, max(span // BUCKETS, 1)
        self._bound = NEVER  # that the newest time of an old file lies below
        self._ranges = np.zeros((0, 2), np.int64)

    def follow(self, watermark: int) -> None:
        """Look which files have become old, where `watermark`, in us, is an eighth of the bound further."""
        bound = watermark // self._width * self._width - self._span
        if bound > self._bound:
            self._bound = bound
            self._ranges = np.array([(part.low, part.high) for part in self._parts()], np.int64).reshape(-1, 2)

    def _parts(self) -> list[Part]:
        parts = parts_of(open_delta(self._path))
        return [part for part in parts if part.newest is not None and part.newest < self._bound and _dense(part)]

    def holds(self, ids: Array) -> Array:
        """Return bool [n]: which int64 ids are there."""
        found = np.zeros(len(ids), bool)
        reached = self._ranges[(self._ranges[:, 0] <= ids.max(initial=0)) & (self._ranges[:, 1] >= ids.min(initial=0))]
        near = ((reached[:, :1] <= ids) & (ids <= reached[:, 1:])).any(0)
        if near.any():
            asked = ids[near]
            parts = [part for part in self._parts() if part.may_hold(int(asked.min()), int(asked.max()))]
            for rows in read_parts(self._path, parts, {"sample_id": pl.Int64()}, None):
                found |= np.isin(ids, rows["sample_id"].to_numpy())
        return found


def _dense(part: Part) -> bool:
    return part.low is not None and part.high is not None and part.high - part.low < SPARSE * (part.rows or 0)
