"""What an Arrow stream takes when it is read, told without reading it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recdistill.stream.sources.unpacked import unpacked_size
from recdistill.stream.sources.wire import MAX_BYTES, Message, Reader, Unreadable
from tests.support.tables import SCHEMA

CODECS = [None, "lz4", "zstd"]


def stream(table: pa.Table, codec: str | None, rows: int | None = None) -> bytes:
    """Return a table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table, rows)
    return bytes(sink.getvalue())


def zeros(rows: int) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(bytes(8 * rows))])


@pytest.mark.parametrize("codec", CODECS)
def test_the_size_is_that_of_the_buffers(codec: str | None) -> None:
    table = pa.table(
        {
            "a": zeros(1000),
            "b": [f"text {k % 7}" for k in range(1000)],
            "c": [[k, k + 1] for k in range(1000)],
            "d": pa.array(["x", "y"] * 500).dictionary_encode(),
        }
    )
    held = sum(pa.ipc.open_stream(stream(table, codec, 300)).read_all().column(k).nbytes for k in range(4))
    size = unpacked_size(stream(table, codec, 300))
    assert held <= size <= held * 1.1 + 4096  # what is stored is padded


@pytest.fixture
def counted() -> Iterator[pa.MemoryPool]:
    """A memory pool that counts from here on."""
    before = pa.default_memory_pool()
    yield pa.proxy_memory_pool(before)
    pa.set_memory_pool(before)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_message_that_would_fill_the_memory_is_refused_packed(codec: str, counted: pa.MemoryPool) -> None:
    rows = MAX_BYTES // 8 + 1
    payload = stream(pa.table({"sample_id": zeros(rows)}), codec)
    assert len(payload) < MAX_BYTES // 100
    pa.set_memory_pool(counted)
    with pytest.raises(Unreadable, match="its rows take more than 64 MiB"):
        Reader(SCHEMA.columns()).read(Message("p", 1, "events", payload))
    assert counted.max_memory() < 1 << 20


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(CODECS))
@example(1383, 128, None)  # the length of a buffer becomes negative
def test_damage_is_told(at: int, byte: int, codec: str | None) -> None:
    payload = bytearray(stream(pa.table({"a": zeros(50), "b": ["x"] * 50}), codec))
    payload[at % len(payload)] = byte
    try:
        assert unpacked_size(bytes(payload)) >= 0
    except (pa.ArrowException, OSError, ValueError):
        pass
