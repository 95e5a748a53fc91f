"""What `ingest` took from the source since its last commit: messages in order of arrival, and what is in them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pyarrow as pa

from recdistill.stream.sources.wire import KINDS, Kind, Message, Reader, Unreadable, Wire
from recdistill.typing import Array

__all__ = ["MicroBatch"]


@dataclass
class MicroBatch:
    """messages: without payload; unread: those that could not be read, with theirs; rows: so far, an unreadable message
    counts as one.

    ended: partitions on which nothing follows. published: when the newest message left its producer, 0 if unknown.
    """

    messages: list[Message] = field(default_factory=list)
    tables: dict[Kind, list[tuple[int, pa.Table]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    unread: list[tuple[Message, Unreadable]] = field(default_factory=list)
    rows: int = 0
    published: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def take(self, message: Message, readers: dict[Kind, Reader]) -> bool:
        """Read a message into the micro-batch; return whether its partition ends with it."""
        try:
            table, wire = _read(message, readers)
        except Unreadable as error:
            self.unread.append((message, error))
            self.drop("missing" if message.missing else "unreadable", error.rows)
            self.messages.append(replace(message, payload=b"", end=False))
            self.rows += 1
            return False
        self.messages.append(replace(message, payload=b"", published=wire.published, end=wire.end))
        if table.num_rows:
            self.tables[message.kind].append((len(self.messages) - 1, table))
            self.published = max(self.published, wire.published)
        self.rows += table.num_rows
        return wire.end

    def drop(self, cause: str, rows: int) -> None:
        """Count rows that are not taken."""
        if rows:
            self.dropped[cause] = self.dropped.get(cause, 0) + rows

    def of(self, kind: Kind) -> tuple[pl.DataFrame, Array]:
        """Return the rows of a kind (there are some) in order of arrival, and int [n]: the message that
        each came in.
        """
        tables = self.tables[kind]
        rows = pl.DataFrame(pa.concat_tables([table for _, table in tables])).rechunk()
        return rows, np.repeat([k for k, _ in tables], [table.num_rows for _, table in tables])

    def offsets(self, before: dict[str, int]) -> dict[str, int]:
        """Return up to where everything is taken; an end is not passed, so that the next start finds it again."""
        after = dict(before)
        for message in self.messages:
            after[message.partition] = message.position + (not message.end)
        return after


def _read(message: Message, readers: dict[Kind, Reader]) -> tuple[pa.Table, Wire]:
    if message.missing:
        raise Unreadable("removed by the broker before it was read; raise its retention", message.missing)
    if message.kind in readers:
        return readers[message.kind].read(message)
    if isinstance(message.payload, pl.DataFrame):  # the end of a table has all its columns
        table, wire = pa.table({}), Wire(message.published, end=message.end and not len(message.payload))
    else:
        table, wire = Reader({}).read(message) if message.end else (pa.table({}), Wire())
    if not wire.end:
        raise Unreadable(f"this run has no table of {message.kind}")
    return table, wire
