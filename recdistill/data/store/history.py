"""Histories, materialised late: every user's events once, in the order they became known, in one memory-mapped store.

A sample's history is a slice of its user's events: those known strictly before the sample's time. Storage is
O(events), whatever the length a model asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recdistill.data.store.grouped import first_not_below, write_grouped
from recdistill.data.store.memmap import open_column
from recdistill.typing import Array

__all__ = ["KINDS", "PREFIX", "Events", "HistoryStore", "build_histories"]

PREFIX, KINDS = "history_", {"item": ((), "int32"), "time": ((), "int64"), "action": ((), "uint8")}
Chunks = Callable[[], Iterable[tuple[Array, Array, Array, Array, Array]]]


class Events(NamedTuple):
    """R jagged histories, oldest event first: offsets int64 [R + 1]; item int32, time int64 us, action
    uint8, [T] each.
    """

    offsets: Array
    item: Array
    time: Array
    action: Array


def build_histories(folder: Path, chunks: Chunks, users: int) -> HistoryStore:
    """Write the store from chunks of (user, item, event time us, known time us, action); two passes, O(chunk + users).

    `user` is int32 [n] below `users`; chunks come in order of event time. Each user's events end up in order of the
    time they became known, ties in log order.
    """

    def by_user() -> Iterable[tuple[Array, ...]]:
        return ((user, known, item, time, action) for user, item, time, known, action in chunks())

    write_grouped(folder, PREFIX, KINDS, by_user, users)
    return HistoryStore(folder)


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
