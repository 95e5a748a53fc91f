"""Rows that wait: columns to which rows are appended at one end and dropped at the other, in amortised O(1) per row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recdistill.typing import Array

__all__ = ["RowQueue"]


class RowQueue:
    """Columns of equal length by name; the first append decides their types and shapes.

    `first` is the number of rows dropped so far: the position, among all rows ever appended, of row 0.
    """

    def __init__(self) -> None:
        self.first = self._start = self._end = 0
        self._room: dict[str, Array] = {}

    def __len__(self) -> int:
        """Return the number of waiting rows."""
        return self._end - self._start

    def __getitem__(self, name: str) -> Array:
        """Return the waiting rows of a column, a view that may be written to until the next append."""
        return self._room[name][self._start : self._end]

    def append(self, rows: Mapping[str, Array]) -> None:
        """Append rows, arrays [n, ...]."""
        count = len(next(iter(rows.values())))
        if not self._room or self._end + count > len(next(iter(self._room.values()))):
            self._move(rows, len(self) + count)
        for name, values in rows.items():
            self._room[name][self._end : self._end + count] = values
        self._end += count

    def _move(self, rows: Mapping[str, Array], needed: int) -> None:
        """Move the waiting rows to the start of larger buffers."""
        for name, values in rows.items():
            room = np.zeros((2 * needed, *values.shape[1:]), values.dtype)
            if name in self._room:
                room[: len(self)] = self[name]
            self._room[name] = room
        self._start, self._end = 0, len(self)

    def drop(self, rows: int) -> None:
        """Drop the first `rows` rows."""
        self._start += rows
        self.first += rows

    def state(self) -> dict[str, Array]:
        """Return copies of the waiting rows' columns."""
        return {name: self[name].copy() for name in self._room}

    def restore(self, first: int, rows: Mapping[str, Array]) -> None:
        """Become the queue of `rows`, after `first` dropped ones."""
        self._room = {name: values.copy() for name, values in rows.items()}
        self._start, self._end = 0, len(next(iter(rows.values()), ()))
        self.first = first
