"""Rows to batches: gather columns and histories, deduplicate ids, hand the model tensors; prefetched in the background."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from recdistill.data.batch import Batch, History, Lookup
from recdistill.data.history import Events, age_bucket

__all__ = ["BatchBuilder", "Samples", "dedupe", "prefetch"]

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")
S = TypeVar("S")


def dedupe(ids: Array, scratch: Array) -> tuple[Array, Array]:
    """Return (unique [U], inverse like `ids`), int64, with unique[0] == 0; O(n), no sort.

    `scratch` is an int64 array longer than the largest id; its content is overwritten.
    """
    flat = ids.reshape(-1).astype(np.int64)
    place = np.arange(len(flat))
    scratch[flat] = place
    unique = flat[(scratch[flat] == place) & (flat != 0)]
    unique = np.concatenate((np.zeros(1, np.int64), unique))
    scratch[unique] = np.arange(len(unique))
    return unique, scratch[flat].reshape(ids.shape)


def _lookup(ids: Array, scratch: Array) -> Lookup:
    unique, inverse = dedupe(ids, scratch)
    return Lookup(torch.from_numpy(unique), torch.from_numpy(inverse))


class Samples(Protocol):
    """What a store gives by position: its columns (see `SampleStore`), and the sizes of its vocabularies, padding included."""

    sample_id: Array
    time: Array
    user: Array
    item: Array
    context: Array
    lists: Array
    labels: Array

    @property
    def users(self) -> int: ...
    @property
    def items(self) -> int: ...
    @property
    def contexts(self) -> int: ...
    def history(self, rows: Array, length: int) -> Events: ...


class BatchBuilder:
    """Builds batches from a store: histories of up to `length` events, signals from a column aligned with the store."""

    def __init__(self, store: Samples, length: int, signals: Array | None = None) -> None:
        self.store, self.length, self.signals = store, length, signals
        self._users = self._items = self._contexts = np.zeros(0, np.int64)

    def _make_room(self) -> None:
        """Let the scratch arrays hold every id of the store, which may have grown."""
        store = self.store
        self._users, self._items, self._contexts = (
            scratch if len(scratch) >= size else np.zeros(size + size // 2, np.int64)
            for scratch, size in ((self._users, store.users), (self._items, store.items), (self._contexts, store.contexts))
        )

    def build(self, rows: Array) -> Batch:
        """Return the batch of store positions `rows`, int64 [B]. Not thread-safe: one builder per thread."""
        store = self.store
        self._make_room()
        labels = store.labels[rows]
        signals = np.full_like(labels, np.nan) if self.signals is None else self.signals[rows]
        return Batch(
            sample_id=torch.from_numpy(store.sample_id[rows]),
            item=_lookup(store.item[rows], self._items),
            user=_lookup(store.user[rows], self._users),
            context=_lookup(store.context[rows], self._contexts),
            lists=_lookup(store.lists[rows], self._contexts),
            history=self._history(rows),
            labels=torch.from_numpy(labels),
            signals=torch.from_numpy(signals),
        )

    def _history(self, rows: Array) -> History:
        """Gather the newest `length` known events of each row; neighbours with one user and time share a history."""
        user, time = self.store.user[rows], self.store.time[rows]
        new = np.ones(len(rows), bool)
        new[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
        of = np.cumsum(new) - 1
        seen = self.store.history(rows[new], self.length)
        unique, index = dedupe(seen.item, self._items)
        age = age_bucket((np.repeat(time[new], np.diff(seen.offsets)) - seen.time) / 1e6)
        action = seen.action.astype(np.int64)
        return History(*(torch.from_numpy(part) for part in (unique, index, age, action, seen.offsets, of)))


def prefetch(work: Callable[[S], T], items: Iterable[S], depth: int = 4) -> Iterator[T]:
    """Yield work(item) in order, computed by one background thread at most `depth` ahead; its exceptions surface here."""
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not stop.is_set():
            try:
                return results.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                if stop.is_set():
                    return
                put((True, work(item)))
            put((False, None))
        except BaseException as error:  # noqa: BLE001 - carried to the consumer, where it is raised
            put((False, error))

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            more, value = results.get()
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        thread.join()
