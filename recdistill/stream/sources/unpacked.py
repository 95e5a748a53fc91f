"""How large an Arrow stream becomes when it is read, from its headers alone: 15 kB of zeros may stand for 480 MB.

A record batch says where each of its buffers lies in the body; a compressed buffer begins with its size when unpacked,
an int64, -1 where it is stored as it is. The headers are flatbuffers (https://flatbuffers.dev/internals), of which this
reads the three fields it needs.
"""

from __future__ import annotations

import struct

import pyarrow as pa

__all__ = ["unpacked_size"]

HEADER, BATCH_OF_DICTIONARY, BUFFERS, COMPRESSION = (
    2,
    1,
    2,
    3,
)  # numbers of fields in Message, DictionaryBatch, RecordBatch


def unpacked_size(payload: bytes) -> int:
    """Return the bytes that the buffers of all record and dictionary batches take.

    Raises ValueError, or what Arrow raises, for what is no Arrow stream.
    """
    try:
        return sum(_of_message(message) for message in pa.ipc.MessageReader.open_stream(payload))
    except (struct.error, IndexError) as error:
        raise ValueError(f"a damaged header: {error}") from None


def _of_message(message: pa.ipc.Message) -> int:
    if message.body is None or message.type not in ("record batch", "dictionary"):
        return 0
    about, body = bytes(message.metadata), memoryview(message.body)
    batch = _table(about, _root(about), HEADER)
    if message.type == "dictionary":
        batch = _table(about, batch, BATCH_OF_DICTIONARY)
    packed = _field(about, batch, COMPRESSION) is not None
    return sum(_of_buffer(body, *place, packed) for place in _places(about, batch))


def _of_buffer(body: memoryview, offset: int, length: int, packed: bool) -> int:
    if length < 0:
        raise ValueError("a buffer of negative length")
    if not packed or not length:
        return length
    (size,) = struct.unpack_from("<q", body, offset)
    if size < -1:
        raise ValueError("a buffer of negative size")
    return length if size == -1 else int(size)


def _places(about: bytes, batch: int) -> list[tuple[int, int]]:
    """Return (offset, length) of every buffer in the body."""
    at = _field(about, batch, BUFFERS)
    if at is None:
        return []
    start = at + struct.unpack_from("<I", about, at)[0]
    (count,) = struct.unpack_from("<I", about, start)
    return [struct.unpack_from("<qq", about, start + 4 + 16 * k) for k in range(count)]


def _root(about: bytes) -> int:
    return int(struct.unpack_from("<I", about, 0)[0])


def _field(about: bytes, table: int, number: int) -> int | None:
    """Return where a table's field lies, None where it has none."""
    vtable = table - struct.unpack_from("<i", about, table)[0]
    size = struct.unpack_from("<H", about, vtable)[0]
    if 4 + 2 * number >= size:
        return None
    offset = struct.unpack_from("<H", about, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _table(about: bytes, table: int, number: int) -> int:
    """Return where the table in a table's field lies; IndexError where it has none."""
    at = _field(about, table, number)
    if at is None:
        raise IndexError("a field is missing")
    return at + int(struct.unpack_from("<I", about, at)[0])
