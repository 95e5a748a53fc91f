"""A table's rows, memory-mapped: float32 as they are, or int8 with a minimum and a step per row.

table_N.npy          float32 [ids + 1, width]; or uint8 of the same shape, with
table_N.range.npy    float32 [ids + 1, 2]: a row is minimum + step * code
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recdistill.data.store.memmap import open_column
from recdistill.errors import RecdistillError
from recdistill.typing import Array

__all__ = ["CODES", "Int8Rows", "int8_of", "open_rows"]

CODES = 255  # steps from a row's minimum to its maximum


class Int8Rows:
    """Rows of bytes that are read as the float32 [rows, width] that they stand for."""

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, codes: Array, ranges: Array) -> None:
        if codes.ndim != 2 or ranges.shape != (len(codes), 2) or ranges.dtype != np.float32:
            raise RecdistillError("rows of bytes, with a minimum and a step for each, were expected")
        self.codes, self.ranges, self.shape = np.asarray(codes), np.asarray(ranges), codes.shape  # no memmap: slower

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    def __getitem__(self, rows: Array | slice) -> Array:
        """Return float32 [n, width] of `rows`."""
        low, step = self.ranges[rows, 0, None], self.ranges[rows, 1, None]
        return np.asarray(low + step * self.codes[rows].astype(np.float64), np.float32)  # float32's range may not hold


def int8_of(rows: Array) -> tuple[Array, Array]:
    """Return (uint8 [n, width], float32 [n, 2]) of float32 [n, width], each value within half a step of its own; a row
    of one value, a padding of zeros too, comes back as it is.
    """
    wide = rows.astype(np.float64)
    low, high = wide.min(1, initial=np.inf), wide.max(1, initial=-np.inf)
    step = np.where(high > low, (high - low) / CODES, 0.0).astype(np.float32)
    divisor = np.where(step > 0, step, 1.0).astype(np.float64)
    codes = np.clip(np.rint((wide - low[:, None]) / divisor[:, None]), 0, CODES).astype(np.uint8)
    return codes, np.stack((low.astype(np.float32), step), 1)


def open_rows(folder: Path, number: int) -> Array | Int8Rows:
    """Return the rows of a table, by their ids' indices. RecdistillError for what is none."""
    found = open_column(folder, f"table_{number}")
    if found.dtype != np.uint8:
        return found
    return Int8Rows(found, open_column(folder, f"table_{number}.range"))
