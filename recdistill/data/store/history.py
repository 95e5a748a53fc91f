"""Histories, materialised late: every user's events once, in the order they became known, in one memory-mapped store.

A sample's history is a slice of its user's events: those known strictly before the sample's time. Storage is
O(events), whatever the length a model asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recdistill.data.store.memmap import create_column, open_column
from recdistill.typing import Array

__all__ = ["Events", "HistoryStore", "build_histories", "first_not_below", "group_ranks"]

Chunks = Callable[[], Iterable[tuple[Array, Array, Array, Array, Array]]]


class Events(NamedTuple):
    """R jagged histories, oldest event first: offsets int64 [R + 1]; item int32, time int64 us, action
    uint8, [T] each.
    """

    offsets: Array
    item: Array
    time: Array
    action: Array


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


def group_ranks(user: Array) -> tuple[Array, Array]:
    """Return (order, rank): a stable order by user and each row's rank among its user's rows in that order."""
    order = np.argsort(user, kind="stable")
    grouped = user[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    rank = np.arange(len(user)) - np.repeat(starts, np.diff(np.r_[starts, len(user)]))
    return order, rank


def build_histories(folder: Path, chunks: Chunks, users: int) -> HistoryStore:
    """Write the store from chunks of (user, item, event time us, known time us, action); two passes, O(chunk + users).

    `user` is int32 [n] below `users`; chunks come in order of event time. Each user's events end up in order of the
    time they became known, ties in log order.
    """
    counts = np.zeros(users, np.int64)
    for user, *_ in chunks():
        counts += np.bincount(user, minlength=users)
    first = np.r_[0, np.cumsum(counts)]
    total = int(first[-1])
    item, time, known = (
        create_column(folder, f"history_{name}", (total,), dtype)
        for name, dtype in (("item", "int32"), ("time", "int64"), ("known", "int64"))
    )
    action = create_column(folder, "history_action", (total,), "uint8")
    cursor = first[:-1].copy()
    for user, items, times, knowns, actions in chunks():
        order, rank = group_ranks(user)
        position = cursor[user[order]] + rank
        for column, values in ((item, items), (time, times), (known, knowns), (action, actions)):
            column[position] = values[order]
        cursor += np.bincount(user, minlength=users)
    _sort_by_known((item, time, known, action), first)
    np.save(folder / "history_first.npy", first)
    return HistoryStore(folder)


def _sort_by_known(columns: tuple[Array, ...], first: Array, slab: int = 1 << 20) -> None:
    """Sort every user's slice by known time, whole users at a time, only where delays put it out of order."""
    known, users, start = columns[2], len(first) - 1, 0
    while start < users:
        stop = max(start + 1, int(np.searchsorted(first, first[start] + slab, side="right")) - 1)
        stop = min(stop, users)
        low, high = int(first[start]), int(first[stop])
        owner = np.repeat(np.arange(start, stop), np.diff(first[start : stop + 1]))
        order = np.lexsort((known[low:high], owner))
        if (order != np.arange(high - low)).any():
            for column in columns:
                column[low:high] = column[low:high][order]
        start = stop


class HistoryStore:
    """Every user's events, memory-mapped: `item` int32, `time` and `known` int64 us, `action` uint8,
    `first` per user.
    """

    def __init__(self, folder: Path) -> None:
        self.item, self.time, self.known, self.action, self.first = (
            open_column(folder, f"history_{name}") for name in ("item", "time", "known", "action", "first")
        )

    def known_before(self, user: Array, time: Array) -> Array:
        """Return int64 [n]: the end of each sample's history, the first event of `user` not known before `time` us."""
        return first_not_below(self.known, self.first[user], self.first[user + 1], time)

    def gather(self, start: Array, stop: Array) -> Events:
        """Return the events at the positions [start, stop) of each of R histories, int64 [R] each."""
        lengths = stop - start
        offsets = np.zeros(len(start) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        at = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
        return Events(offsets, self.item[at], self.time[at], self.action[at])
