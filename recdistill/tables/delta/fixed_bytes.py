"""Rows of equally many bytes as a binary column, and back, without a loop over rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from recdistill.errors import UserError
from recdistill.typing import Array

__all__ = ["from_bytes", "to_bytes"]


def to_bytes(values: Array) -> pl.Series:
    """Return a binary Series of n rows, the bytes of each row of `values` [n, ...]."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
    width = flat.shape[1]
    offsets = np.arange(len(flat) + 1, dtype=np.int64) * width
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(flat)]
    return pl.Series(pa.Array.from_buffers(pa.large_binary(), len(flat), buffers), dtype=pl.Binary)


def from_bytes(column: pl.Series, width: int) -> tuple[Array, Array]:
    """Return (bool [n] which rows hold something, uint8 [those, width]); UserError where a row holds
    another number of bytes.
    """
    has = column.is_not_null().to_numpy()
    held = column.drop_nulls()
    if not len(held):
        return has, np.zeros((0, width), np.uint8)
    if (held.bin.size() != width).any():
        raise UserError(f"column '{column.name}' holds rows that are not {width} bytes long")
    return has, np.frombuffer(b"".join(held.to_list()), np.uint8).reshape(-1, width)
