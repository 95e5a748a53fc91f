"""Columns by key: the entries of each key side by side, in the order in which they became known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from recdistill.data.store.memmap import create_column
from recdistill.typing import Array

__all__ = ["SLAB", "entries_since", "first_not_below", "group_ranks", "slabs", "write_grouped"]

SLAB = 1 << 20  # entries of whole keys held in memory at a time
Chunks = Callable[[], Iterable[tuple[Array, ...]]]


def first_not_below(values: Array, low: Array, high: Array, bound: Array) -> Array:
    """Return int64 [n]: per search the first position of [low, high) whose value is not below `bound`;
    values rise in each range.
    """
    while True:
        open_ = low < high
        if not open_.any():
            return np.asarray(low, np.int64)
        middle = (low + high) >> 1
        earlier = open_ & (values[np.where(open_, middle, 0)] < bound)
        low = np.where(earlier, middle + 1, low)
        high = np.where(open_ & ~earlier, middle, high)


def group_ranks(key: Array) -> tuple[Array, Array]:
    """Return (order, rank): a stable order by key and each row's rank among its key's rows in that order."""
    order = np.argsort(key, kind="stable")
    grouped = key[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    rank = np.arange(len(key)) - np.repeat(starts, np.diff(np.r_[starts, len(key)]))
    return order, rank


def write_grouped(
    folder: Path, prefix: str, kinds: Mapping[str, tuple[tuple[int, ...], str]], chunks: Chunks, keys: int
) -> dict[str, Array]:
    """Write the columns `known` int64 us and `kinds` (name -> (shape of an entry, type)) by key, and `first` int64
    [keys + 1], where each key's entries begin, and return them; each file is named with `prefix`.

    chunks: (key int [n] below `keys`, known, then the columns of `kinds`), read twice. A key's entries end up in order
    of the time they became known, ties in the order given. Memory O(chunk + keys).
    """
    counts = np.zeros(keys, np.int64)
    for key, *_ in _joined(chunks()):
        counts += np.bincount(key, minlength=keys)
    first = np.r_[0, np.cumsum(counts)]
    named = {"known": ((), "int64"), **kinds}
    columns = {
        name: create_column(folder, prefix + name, (int(first[-1]), *shape), kind)
        for name, (shape, kind) in named.items()
    }
    cursor = first[:-1].copy()
    for key, *values in _joined(chunks()):
        order, rank = group_ranks(key)
        position = cursor[key[order]] + rank
        for column, part in zip(columns.values(), values, strict=True):
            column[position] = part[order]
        cursor += np.bincount(key, minlength=keys)
    _sort_by_known(list(columns.values()), first)
    np.save(folder / f"{prefix}first.npy", first)
    return columns | {"first": first}


def _joined(chunks: Iterable[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
    """Yield chunks of SLAB entries and more: each goes to pages all over the columns, which are written out again."""
    held: list[tuple[Array, ...]] = []
    for chunk in chunks:
        held.append(chunk)
        if sum(len(key) for key, *_ in held) >= SLAB:
            yield tuple(map(np.concatenate, zip(*held, strict=True)))
            held = []
    if held:
        yield tuple(map(np.concatenate, zip(*held, strict=True)))


def entries_since(first: Array, known: Array, time: int) -> Iterator[tuple[Array, Array]]:
    """Yield (places int64 [n], key of each) of the entries known at `time` us or later, of SLAB entries looked at
    together; first, known: as `write_grouped` has them.
    """
    for low in range(0, len(known), SLAB):
        at = low + np.flatnonzero(known[low : low + SLAB] >= time)
        if len(at):
            yield at, np.searchsorted(first, at, side="right") - 1


def slabs(first: Array) -> Iterable[tuple[slice, Array]]:
    """Yield (entries, int64 key of each) of whole keys, about SLAB entries at a time; first: as `write_grouped` has
    it.
    """
    keys, start = len(first) - 1, 0
    while start < keys:
        stop = min(max(start + 1, int(np.searchsorted(first, first[start] + SLAB, side="right")) - 1), keys)
        yield (
            slice(int(first[start]), int(first[stop])),
            np.repeat(np.arange(start, stop), np.diff(first[start : stop + 1])),
        )
        start = stop


def _sort_by_known(columns: list[Array], first: Array) -> None:
    """Sort every key's entries by the first column, only where delays put them out of order."""
    for part, owner in slabs(first):
        known = columns[0][part]
        if ((known[1:] < known[:-1]) & (owner[1:] == owner[:-1])).any():
            order = np.lexsort((known, owner))
            for column in columns:
                column[part] = column[part][order]
