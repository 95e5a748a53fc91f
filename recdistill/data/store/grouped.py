"""Columns by key: the entries of each key side by side, in the order in which they became known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from recdistill.data.store.memmap import create_column, writable_column
from recdistill.typing import Array

__all__ = [
    "SLAB",
    "Chunks",
    "create_grouped",
    "entries_since",
    "fill_grouped",
    "first_not_below",
    "group_ranks",
    "shares",
    "slabs",
    "write_grouped",
]

SLAB = 1 << 20  # entries of whole keys held in memory at a time
Chunks = Callable[[], Iterable[tuple[Array, ...]]]
Kinds = Mapping[str, tuple[tuple[int, ...], str]]


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


def write_grouped(folder: Path, prefix: str, kinds: Kinds, chunks: Chunks, keys: int) -> dict[str, Array]:
    """Write the columns `known` int64 us and `kinds` (name -> (shape of an entry, type)) by key, and `first` int64
    [keys + 1], where each key's entries begin, and return them; each file is named with `prefix`.

    chunks: (key int [n] below `keys`, known, then the columns of `kinds`), read twice. A key's entries end up in order
    of the time they became known, ties in the order given. Memory O(chunk + keys).
    """
    create_grouped(folder, prefix, kinds, chunks, keys)
    return fill_grouped(folder, prefix, kinds, chunks, 0, keys)


def create_grouped(folder: Path, prefix: str, kinds: Kinds, chunks: Chunks, keys: int) -> Array:
    """Make the columns of `write_grouped`, to be filled, and write `first`; return it."""
    counts = np.zeros(keys, np.int64)
    for key, *_ in _joined(chunks()):
        counts += np.bincount(key, minlength=keys)
    first: Array = np.r_[0, np.cumsum(counts)]
    for name, (shape, kind) in _named(kinds).items():
        create_column(folder, prefix + name, (int(first[-1]), *shape), kind)
    np.save(folder / f"{prefix}first.npy", first)
    return first


def fill_grouped(folder: Path, prefix: str, kinds: Kinds, chunks: Chunks, low: int, high: int) -> dict[str, Array]:
    """Write the entries of the keys [low, high) into the columns that `create_grouped` made, whatever is there; return
    the columns, all of them, and `first`. Several processes may, each its own keys.
    """
    first = np.load(folder / f"{prefix}first.npy", allow_pickle=False)
    columns = {name: writable_column(folder, prefix + name) for name in _named(kinds)}
    cursor = first[low:high].copy()
    for key, *values in _joined(_between(chunks(), low, high)):
        order, rank = group_ranks(key)
        position = cursor[key[order] - low] + rank
        for column, part in zip(columns.values(), values, strict=True):
            column[position] = part[order]
        cursor += np.bincount(key - low, minlength=high - low)
    _sort_by_known(list(columns.values()), slabs(first, low, high))
    return columns | {"first": first}


def _named(kinds: Kinds) -> Kinds:
    return {"known": ((), "int64"), **kinds}


def _between(chunks: Iterable[tuple[Array, ...]], low: int, high: int) -> Iterator[tuple[Array, ...]]:
    """Yield what of the chunks has keys in [low, high)."""
    for key, *values in chunks:
        mine = (key >= low) & (key < high)
        yield (key, *values) if mine.all() else (key[mine], *(part[mine] for part in values))


def shares(first: Array, count: int) -> list[tuple[int, int]]:
    """Return at most `count` ranges [low, high) of keys of about as many entries; first: as `write_grouped` has it."""
    edges = np.searchsorted(first, np.linspace(0, first[-1], count + 1)[1:-1])
    ends = np.unique(np.r_[0, edges, len(first) - 1])
    return list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


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


def slabs(first: Array, low: int = 0, high: int | None = None) -> Iterable[tuple[slice, Array]]:
    """Yield (entries, int64 key of each) of whole keys of [low, high), all by default, about SLAB entries at a time;
    first: as `write_grouped` has it.
    """
    keys, start = len(first) - 1 if high is None else high, low
    while start < keys:
        stop = min(max(start + 1, int(np.searchsorted(first, first[start] + SLAB, side="right")) - 1), keys)
        yield (
            slice(int(first[start]), int(first[stop])),
            np.repeat(np.arange(start, stop), np.diff(first[start : stop + 1])),
        )
        start = stop


def _sort_by_known(columns: list[Array], parts: Iterable[tuple[slice, Array]]) -> None:
    """Sort every key's entries by the first column, only where delays put them out of order."""
    for part, owner in parts:
        known = columns[0][part]
        if ((known[1:] < known[:-1]) & (owner[1:] == owner[:-1])).any():
            order = np.lexsort((known, owner))
            for column in columns:
                column[part] = column[part][order]
