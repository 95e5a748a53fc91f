"""The wire format: a batch of rows as an Arrow IPC stream, which any language can write; nothing in it is trusted.

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

from recdistill.defaults import PUBLISHED
from recdistill.errors import UserError, did_you_mean
from recdistill.stream.sources.unpacked import unpacked_size
from recdistill.tables.validation import check_columns

__all__ = [
    "KINDS",
    "MAX_BYTES",
    "Kind",
    "Message",
    "Outgoing",
    "Reader",
    "Unreadable",
    "Wire",
    "encode",
    "number_of",
    "published_at",
    "wire_of",
]

Kind = Literal["events", "behaviors", "outcomes"]
KINDS: tuple[Kind, ...] = ("events", "behaviors", "outcomes")
MAX_BYTES = 64 << 20  # of a message, and of its buffers when unpacked
LEFT, NUMBER, END = PUBLISHED.encode(), b"recdistill.number", b"recdistill.end"
MAX_REASON = 300  # characters
MAX_TIME = 2.5e11  # seconds since 1970: the year 9892
UTC = ("UTC", "Etc/UTC", "+00:00", "Z")


@dataclass(frozen=True)
class Message:
    """What a source gives: `payload` stands at `position` of `partition`; its channel gives its kind.

    payload: an Arrow IPC stream, or the rows themselves where the source is a table. published, end: of such rows (see
    above). missing: messages that the broker no longer had; then there is no payload, and position is the last of them.
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
    """The metadata of a message; number -1: not of a replay."""

    published: float = 0.0
    number: int = -1
    end: bool = False


class Unreadable(Exception):
    """A message that cannot be taken as a whole. reason: one line; rows: how many it holds, 1 if that
    is unknown.
    """

    def __init__(self, reason: str, rows: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.rows = " ".join(reason.split())[:MAX_REASON], rows


def encode(message: Outgoing, published: float | None = None) -> bytes:
    """Return the message's bytes; `published` seconds since 1970, by default now."""
    table = message.rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    metadata = {LEFT: repr(time.time() if published is None else published), NUMBER: str(message.number)}
    schema = table.schema.with_metadata({**metadata, END: "1"} if message.end else metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def published_at(text: bytes | str | float) -> float:
    """Return when a producer published, in seconds since 1970, by its own clock; 0, unknown, for no such time."""
    try:
        return at if 0 < (at := float(text)) < MAX_TIME else 0.0
    except ValueError:
        return 0.0


def wire_of(schema: pa.Schema) -> Wire:
    """Return the metadata in a message's schema; what cannot be read counts as not given."""
    found = schema.metadata or {}
    try:
        return Wire(published_at(found.get(LEFT, 0)), int(found.get(NUMBER, -1)), END in found)
    except ValueError:
        return Wire(end=END in found)


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
        self._checked: list[bytes] = []  # schemas that fit; few: a producer writes all its messages alike

    def read(self, message: Message) -> tuple[pa.Table, Wire]:
        """Return a message's rows as Arrow, in the table's columns and types, and its metadata.

        Raises Unreadable for what is no Arrow stream, is damaged, is larger than MAX_BYTES, or has other columns or
        types.
        """
        if isinstance(message.payload, pl.DataFrame):
            return self._taken(message.payload), Wire(message.published, end=message.end)
        if len(message.payload) > MAX_BYTES:
            raise Unreadable(f"a message of more than {MAX_BYTES >> 20} MiB; send fewer rows at a time")
        try:
            if unpacked_size(message.payload) > MAX_BYTES:  # before anything is unpacked
                raise Unreadable(f"its rows take more than {MAX_BYTES >> 20} MiB; send fewer at a time")
            stream = pa.ipc.open_stream(message.payload)
            wire = wire_of(stream.schema)
            table = _whole(stream)
            return (
                self._taken(pl.DataFrame(schema=self.columns))
                if wire.end and not table.num_rows
                else self._fitted(table)
            ), wire
        except (pa.ArrowException, OSError, ValueError):
            raise Unreadable("no Arrow IPC stream, or a damaged one") from None  # the library's details help nobody

    def _fitted(self, table: pa.Table) -> pa.Table:
        """Return a message's rows in our columns; types are compared in Arrow: what Polars does not know
        may end the process.
        """
        exact = bytes(table.schema.remove_metadata().serialize())
        if exact not in self._checked:
            self._check(table.schema, table.num_rows)
            self._checked = [*self._checked[-3:], exact]
        fitted = table if table.schema.names == self._arrow.names else table.select(self._arrow.names)
        return fitted.replace_schema_metadata() if fitted.schema.equals(self._arrow) else fitted.cast(self._arrow)

    def _check(self, found: pa.Schema, rows: int) -> None:
        names = found.names
        for name in names:
            if name not in self.columns:
                raise Unreadable(
                    f"column '{name}' is not in the table's schema{did_you_mean(name, self.columns)}", rows
                )
        for field in self._arrow:
            if field.name not in names:
                raise Unreadable(f"column '{field.name}' is missing{did_you_mean(field.name, names)}", rows)
            if names.count(field.name) > 1:
                raise Unreadable(f"column '{field.name}' stands twice", rows)
            _check_texts(found.field(field.name))
            kind = found.field(field.name).type
            if _plain(kind) != _plain(field.type):
                raise Unreadable(f"column '{field.name}' has type {kind}, the table has {_plain(field.type)}", rows)

    def _taken(self, rows: pl.DataFrame) -> pa.Table:
        try:
            fitted = check_columns(rows, self.columns, "message")
        except UserError as error:
            raise Unreadable(str(error).removeprefix("message: "), len(rows)) from None
        return fitted.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self._arrow)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type without what producers do differently: the width of offsets, names of list elements,
    spellings of UTC.
    """
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_timestamp(kind) and kind.tz in UTC:
        return pa.timestamp(kind.unit, "UTC")
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _check_texts(field: pa.Field) -> None:
    """Raise UnicodeDecodeError for a name or metadata that are no text, at any depth: Polars would end the process."""
    for text in (field.name.encode(), *(field.metadata or {}).keys(), *(field.metadata or {}).values()):
        text.decode()
    for k in range(field.type.num_fields):
        _check_texts(field.type.field(k))


def _whole(stream: pa.RecordBatchStreamReader) -> pa.Table:
    """Return all batches, every offset and every text verified: nothing in them can lead out of the message."""
    batches, size = [], 0
    for batch in stream:
        batch.validate(full=True)
        size += batch.nbytes
        if size > MAX_BYTES:
            raise Unreadable(f"its rows take more than {MAX_BYTES >> 20} MiB; send fewer at a time")
        batches.append(batch)
    return pa.Table.from_batches(batches, stream.schema)
