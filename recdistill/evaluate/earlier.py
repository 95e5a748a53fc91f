"""What stood in a log strictly before a moment, by key: sums and first times, a chunk of the log at a time.

Memory: the questions, and a number per distinct key among them, however long the log is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from recdistill.typing import Array

__all__ = ["first_times", "sums_before"]


class _Keys:
    """The distinct keys of the questions; other keys of the log are left aside."""

    def __init__(self, keys: Array) -> None:
        self.distinct, self.own = np.unique(keys, return_inverse=True)

    def find(self, keys: Array) -> tuple[Array, Array]:
        """Return (int64 [m]: the places of `keys` that are asked for, int64 [m]: each one's code)."""
        at = np.searchsorted(self.distinct, keys).clip(max=max(len(self.distinct) - 1, 0))
        place = np.flatnonzero(self.distinct[at] == keys) if len(self.distinct) else np.zeros(0, np.int64)
        return place, at[place]


class _Chunk:
    """A chunk's events of the keys that are asked for, in order of time, and their running sums by key."""

    def __init__(self, time: Array, code: Array, values: Array) -> None:
        self.time, self.span = time, len(code) + 1
        order = np.argsort(code, kind="stable")
        self.keys = code[order] * self.span + order
        self.sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values[order], 0)])

    def before(self, code: Array, moment: Array) -> Array:
        """Return float64 [n, v]: the sums of a code's events of this chunk before a moment."""
        start = code * self.span
        until = np.searchsorted(self.keys, start + np.searchsorted(self.time, moment))
        return np.asarray(self.sums[until] - self.sums[np.searchsorted(self.keys, start)])


class _Bound:
    """One column of moments, answered from the earliest to the latest."""

    def __init__(self, before: Array, own: Array, width: int) -> None:
        self.order = np.argsort(before, kind="stable")
        self.before, self.own, self.done = before[self.order], own[self.order], 0
        self.found = np.zeros((len(before), width))

    def answer_chunk(self, chunk: _Chunk, totals: Array) -> None:
        """Answer what asks for moments up to the chunk's last time; `totals` hold what stood before the chunk."""
        stop = int(np.searchsorted(self.before, chunk.time[-1], side="right"))
        part = slice(self.done, stop)
        self.found[part] = totals[self.own[part]] + chunk.before(self.own[part], self.before[part])
        self.done = stop

    def answers(self, totals: Array) -> Array:
        """Return float64 [n, v], in the order in which they were asked; `totals` are those of the whole log."""
        self.found[self.done :] = totals[self.own[self.done :]]
        out = np.empty_like(self.found)
        out[self.order] = self.found
        return out


def sums_before(
    chunks: Iterable[tuple[Array, Array, Array]], keys: Array, bounds: Sequence[Array], width: int = 1
) -> list[Array]:
    """Return float64 [n, width] per column of `bounds`: the sums of the values of the key's events strictly before the
    moment.

    chunks: (time int64 [m], key int64 [m], values [m, width]); time never falls, within chunks and from one to the
    next. keys: int64 [n]; bounds: int64 [n] each.
    """
    asked = _Keys(keys)
    totals = np.zeros((len(asked.distinct), width))
    columns = [_Bound(before, asked.own, width) for before in bounds]
    for time, key, values in chunks:
        place, code = asked.find(key)
        if len(place):
            chunk = _Chunk(time[place], code, values[place])
            for column in columns:
                column.answer_chunk(chunk, totals)
            for k in range(width):
                totals[:, k] += np.bincount(code, values[place, k], len(totals))
    return [column.answers(totals) for column in columns]


def first_times(chunks: Iterable[tuple[Array, Array]], keys: Array) -> Array:
    """Return int64 [n]: the earliest time of each key's events, the largest int64 where it has none.

    chunks: (time int64 [m], key int64 [m]), in any order.
    """
    asked = _Keys(keys)
    first = np.full(len(asked.distinct), np.iinfo(np.int64).max)
    for time, key in chunks:
        place, code = asked.find(key)
        np.minimum.at(first, code, time[place])
    return np.asarray(first[asked.own], np.int64)
