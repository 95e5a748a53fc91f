"""What travels: a batch of rows as an Arrow IPC stream, which any language can write, read without trusting any of it.

    schema metadata    recdistill.published   seconds since 1970 at which it left its producer
                       recdistill.number      of a replay: its place in it, from 0
                       recdistill.end         nothing follows on this partition
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from recdistill.errors import UserError
from recdistill.tables.checks import check_columns

__all__ = ["KINDS", "LIMIT", "Kind", "Message", "Outgoing", "Reader", "Unreadable", "Wire", "encode", "number_of", "wire_of"]

Kind = Literal["events", "behaviors", "outcomes"]
KINDS: tuple[Kind, ...] = ("events", "behaviors", "outcomes")
LIMIT = 64 << 20  # bytes of a message, and of its buffers when unpacked
PUBLISHED, NUMBER, END = b"recdistill.published", b"recdistill.number", b"recdistill.end"
REASON = 300  # characters


@dataclass(frozen=True)
class Message:
    """What a source gives: `payload` stands at `position` of `partition`; the channel says its kind.

    payload: an Arrow IPC stream, or the rows themselves where the source is a table. published, end: of such rows (see above).
    missing: messages that the broker no longer had; then there is no payload, and position is the last of them.
    """

    partition: str
    position: int
    kind: Kind
    payload: bytes | pl.DataFrame
    published: float = 0.0
    end: bool = False
    missing: int = 0


@dataclass(frozen=True)
class Outgoing:
    """What a replay publishes: `rows` as its message `number` (from 0); end: nothing follows."""

    number: int
    kind: Kind
    rows: pl.DataFrame
    end: bool = False


@dataclass(frozen=True)
class Wire:
    """What a message says besides its rows; number -1: not of a replay."""

    published: float = 0.0
    number: int = -1
    end: bool = False


class Unreadable(Exception):
    """A message that cannot be taken as a whole. reason: one line; rows: how many it holds, 1 if that cannot be told."""

    def __init__(self, reason: str, rows: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.rows = " ".join(reason.split())[:REASON], rows


def encode(message: Outgoing, published: float | None = None) -> bytes:
    """Return the message's bytes; `published` seconds since 1970, by default now."""
    table = message.rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    about = {PUBLISHED: repr(time.time() if published is None else published), NUMBER: str(message.number)}
    schema = table.schema.with_metadata({**about, END: "1"} if message.end else about)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def wire_of(schema: pa.Schema) -> Wire:
    """Return what a message's schema says of it; what cannot be read counts as not said."""
    told = schema.metadata or {}
    try:
        return Wire(float(told.get(PUBLISHED, 0)), int(told.get(NUMBER, -1)), END in told)
    except ValueError:
        return Wire(end=END in told)


def number_of(payload: bytes) -> int:
    """Return the number of a replay's message, -1 when it is none."""
    try:
        return wire_of(pa.ipc.open_stream(payload).schema).number
    except (pa.ArrowException, OSError, ValueError):
        return -1


class Reader:
    """Reads messages whose rows must have `columns`."""

    def __init__(self, columns: dict[str, pl.DataType]) -> None:
        self.columns = columns
        self._arrow = pl.DataFrame(schema=columns).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        self._good: list[pa.Schema] = []  # few: a producer writes all its messages alike

    def read(self, message: Message) -> tuple[pa.Table, Wire]:
        """Return a message's rows as Arrow, in the table's columns and types, and what it says besides.

        Raises Unreadable for what is no Arrow stream, is damaged, is larger than LIMIT, or has other columns or types.
        """
        if isinstance(message.payload, pl.DataFrame):
            return self._taken(message.payload), Wire(message.published, end=message.end)
        if len(message.payload) > LIMIT:
            raise Unreadable(f"a message of more than {LIMIT >> 20} MiB; send fewer rows at a time")
        try:
            stream = pa.ipc.open_stream(message.payload)
            wire = wire_of(stream.schema)
            table = _whole(stream)
        except (pa.ArrowException, OSError, ValueError):
            raise Unreadable("no Arrow IPC stream, or a damaged one") from None  # the details differ, and say nothing to anyone
        if wire.end and not table.num_rows:
            return self._taken(pl.DataFrame(schema=self.columns)), wire
        return self._fitted(table), wire

    def _fitted(self, table: pa.Table) -> pa.Table:
        plain = table.schema.remove_metadata()
        if not any(plain.equals(good) for good in self._good):
            taken = self._taken(_frame(table))
            self._good = [*self._good[-3:], plain]
            return taken
        names = self._arrow.names
        fitted = table if plain.names == names else table.select(names)
        return fitted.replace_schema_metadata() if fitted.schema.equals(self._arrow) else fitted.cast(self._arrow)

    def _taken(self, rows: pl.DataFrame) -> pa.Table:
        try:
            fitted = check_columns(rows, self.columns, "message")
        except UserError as error:
            raise Unreadable(str(error).removeprefix("message: "), len(rows)) from None
        return fitted.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self._arrow)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _whole(stream: pa.RecordBatchStreamReader) -> pa.Table:
    """Return all batches, every offset and every text verified: nothing in them can lead out of the message."""
    batches, size = [], 0
    for batch in stream:
        batch.validate(full=True)
        size += batch.nbytes
        if size > LIMIT:
            raise Unreadable(f"its rows take more than {LIMIT >> 20} MiB; send fewer at a time")
        batches.append(batch)
    return pa.Table.from_batches(batches, stream.schema)


def _frame(table: pa.Table) -> pl.DataFrame:
    names = table.schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Unreadable(f"column '{twice}' stands twice", table.num_rows)
    try:
        return pl.DataFrame(table)
    except (PolarsError, pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
        raise Unreadable(f"a type that no table has: {_line(error)}", table.num_rows) from None
