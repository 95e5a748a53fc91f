"""Rows to batches: gather columns and histories, deduplicate ids, hand the model tensors; prefetched in the
background.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from recdistill.config.models import ModelConfig, NumericAs
from recdistill.data.batch.batch import Batch, History, Lookup, Vectors
from recdistill.data.batch.candidates import Candidates
from recdistill.data.batch.extras import extra_sequences
from recdistill.data.batch.numbers import COUNTS, numbers_of
from recdistill.data.batch.repeats import REPEATS, repeats
from recdistill.data.store.frozen_vectors import FrozenVectors
from recdistill.data.store.given import as_before, without
from recdistill.data.store.history import Events
from recdistill.data.store.shown import Shown, ShownColumns, shown_at
from recdistill.defaults import GIVEN_HISTORY
from recdistill.typing import Array

__all__ = ["BatchBuilder", "CandidateSignals", "SampleSource", "dedupe", "prefetch"]

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


def _interleave(own: Array, further: Array) -> Array:
    """Return [B * (1 + n), ...]: every row of `own` [B, ...], and after it those of `further` [B, n, ...]."""
    return np.concatenate((own[:, None], further), 1).reshape(len(own) * (1 + further.shape[1]), *own.shape[1:])


def _lookup(ids: Array, scratch: Array) -> Lookup:
    unique, inverse = dedupe(ids, scratch)
    return Lookup(torch.from_numpy(unique), torch.from_numpy(inverse))


def _drawn_with(batch: Batch, offset: Array) -> Batch:
    """Return the batch with what the draw of negatives adds to its rows' logits, float32 [B, 1] or [B, 0]."""
    return replace(batch, draw_offset=torch.from_numpy(offset))


class SampleSource(ShownColumns, Protocol):
    """What batches are built from, by position: columns (see `SampleStore`), and the sizes of its vocabularies,
    padding included.
    """

    sample_id: Array
    time: Array
    user: Array
    weight: Array
    labels: Array
    draw_offset: Array
    counts: Array

    @property
    def vectors(self) -> Mapping[str, FrozenVectors]: ...
    @property
    def users(self) -> int: ...
    @property
    def items(self) -> int: ...
    @property
    def contexts(self) -> int: ...
    @property
    def numeric_fields(self) -> list[int]: ...
    @property
    def sequences(self) -> list[str]: ...
    def history(self, rows: Array, length: int) -> Events: ...
    def given(self, name: str, rows: Array, length: int) -> Events: ...
    def places(self, rows: Array) -> Array: ...
    def items_at(self, places: Array) -> Shown: ...
    def item_counts(self, item: Array, time: Array) -> Array: ...
    def vector_rows(self, side: str, rows: Array, ids: Array) -> Array: ...


@dataclass(frozen=True)
class CandidateSignals:
    """Candidates of a store's samples; signals: float16 [N, count, K], the teacher's logits, NaN where there is
    none.

    log_odds_offset: float32 [K], taken off them, so that they and the samples' own signals are of one sampling.
    """

    candidates: Candidates
    signals: Array
    log_odds_offset: Array

    def of_rows(self, rows: Array, own: Array) -> Array | None:
        """Return float32 [B, count, K] of the samples at `rows`, None where no candidate of theirs has a signal.

        own: [B, K], the samples' own signals; a sample without one has no candidate signals either.
        """
        missing = np.asarray(np.isnan(own).all(1))[:, None, None]
        signals = np.where(missing, np.nan, self.signals[rows] - self.log_odds_offset)
        return None if np.isnan(signals).all() else np.asarray(signals)


class BatchBuilder:
    """Builds batches from a store: histories of up to `length` events, signals from a column aligned with the store.

    candidate_signals: the candidates that come with each sample, none where it is None; past: the teacher's hidden
    states that come with each history; numbers: which of them the model reads, zeros for
    the others; see `numbers_of`. numeric_as: how it reads numeric features, zeros for what it does not.
    """

    def __init__(
        self,
        store: SampleSource,
        length: int,
        signals: Array | None = None,
        candidate_signals: CandidateSignals | None = None,
        past: Callable[[Array], tuple[Array, Array]] | None = None,
        numbers: Sequence[str] = ("counts", "repeats"),
        numeric_as: NumericAs = "both",
    ) -> None:
        self.store, self.length, self.numbers, self.numeric_as = store, length, numbers, numeric_as
        self.signals, self.candidate_signals, self.past = signals, candidate_signals, past
        self._users = self._items = self._contexts = np.zeros(0, np.int64)

    @classmethod
    def of(
        cls,
        store: SampleSource,
        config: ModelConfig,
        signals: Array | None = None,
        candidate_signals: CandidateSignals | None = None,
        past: Callable[[Array], tuple[Array, Array]] | None = None,
    ) -> BatchBuilder:
        """Return the builder of what a model of this configuration reads."""
        read = signals, candidate_signals, past
        return cls(store, config.history, *read, numbers=config.numbers, numeric_as=config.numeric_as)

    def _make_room(self) -> None:
        """Let the scratch arrays hold every id of the store, which may have grown."""
        store = self.store
        self._users, self._items, self._contexts = (
            scratch if len(scratch) >= size else np.zeros(size + size // 2, np.int64)
            for scratch, size in (
                (self._users, store.users),
                (self._items, store.items),
                (self._contexts, store.contexts),
            )
        )

    def build(self, rows: Array) -> Batch:
        """Return the batch of store positions `rows`, int64 [B]. Not thread-safe: one builder per thread."""
        labels, offset = self.store.labels[rows], self.store.draw_offset[rows]
        signals = np.full_like(labels, np.nan) if self.signals is None else self.signals[rows]
        own = shown_at(self.store, rows)
        others = self.candidate_signals.of_rows(rows, signals) if self.candidate_signals else None
        if self.candidate_signals is None or others is None:
            return _drawn_with(self._batch(rows, own, labels, signals), offset)
        count = others.shape[1]
        drawn = self._drawn(rows, self.candidate_signals.candidates, count)
        shown = Shown(
            *(_interleave(a, b.reshape(len(rows), count, *b.shape[1:])) for a, b in zip(own, drawn, strict=True))
        )
        batch = self._batch(
            np.repeat(rows, 1 + count),
            shown,
            _interleave(labels, np.full_like(others, np.nan)),
            _interleave(signals, others),
            1 + count,
        )
        return _drawn_with(batch, _interleave(offset, np.zeros((len(rows), count, offset.shape[1]), np.float32)))

    def unlabelled(self, rows: Array) -> Batch:
        """Return the batch of the samples at `rows` alone, without labels and signals, to be predicted."""
        none = np.full_like(self.store.labels[rows], np.nan)
        return _drawn_with(
            self._batch(rows, shown_at(self.store, rows), none, none.copy()), self.store.draw_offset[rows]
        )

    def candidates(self, rows: Array, candidates: Candidates) -> Batch:
        """Return the candidates alone of the samples at `rows`, [B * count]; no labels, no signals."""
        drawn = self._drawn(rows, candidates, candidates.count)
        none = np.full((len(rows) * candidates.count, self.store.labels.shape[1]), np.nan, np.float32)
        return self._batch(np.repeat(rows, candidates.count), drawn, none, none)

    def _drawn(self, rows: Array, candidates: Candidates, count: int) -> Shown:
        """Return what the first `count` candidates of each row show, [B * count, ...] each."""
        positions = candidates.drawn(self.store.places(rows), self.store.sample_id[rows], count).reshape(-1)
        drawn, own = self.store.items_at(positions), shown_at(self.store, np.repeat(rows, count))
        return Shown(
            drawn.item,
            np.where(candidates.fields, drawn.context, own.context),
            np.where(candidates.slots, drawn.lists, own.lists),
            np.where(candidates.values, drawn.values, own.values),
            np.where(candidates.vectors, drawn.row_vectors, own.row_vectors),
        )

    def _batch(
        self,
        rows: Array,
        shown: Shown,
        labels: Array,
        signals: Array,
        rows_per_sample: int = 1,
    ) -> Batch:
        """Return the batch of users and histories of `rows`, all else as given, [B, ...] each."""
        self._make_room()
        context, values = self._numeric(shown.context, shown.values)
        history, events = self._history(rows)
        return Batch(
            sample_id=torch.from_numpy(self.store.sample_id[rows]),
            item=_lookup(shown.item, self._items),
            user=_lookup(self.store.user[rows], self._users),
            context=_lookup(context, self._contexts),
            lists=_lookup(shown.lists, self._contexts),
            history=history,
            numbers=torch.from_numpy(self._numbers(rows, shown.item, history, events)),
            values=torch.from_numpy(values),
            labels=torch.from_numpy(labels),
            signals=torch.from_numpy(signals),
            sequences=tuple(self._sequence(name, rows)[0] for name in extra_sequences(self.store.sequences)),
            rows_per_sample=rows_per_sample,
            weight=torch.from_numpy(self.store.weight[rows]),
            **self._states(rows, history),
            vectors=self._vectors(rows, {"item": shown.item, "user": self.store.user[rows]}, shown.row_vectors),
        )

    def _vectors(self, rows: Array, ids: Mapping[str, Array], row_vectors: Array) -> dict[str, Vectors]:
        """Return the vectors of each side's ids [B], shown at positions `rows`, and `row_vectors` [B, V]; nothing where
        the log has none.
        """
        found = {}
        for side, vectors in self.store.vectors.items():
            distinct, inverse = np.unique(self.store.vector_rows(side, rows, ids[side]), return_inverse=True)
            found[side] = Vectors(torch.from_numpy(vectors.values[distinct]), torch.from_numpy(inverse))
        if row_vectors.shape[1]:
            found["row"] = Vectors(torch.from_numpy(row_vectors), torch.arange(len(row_vectors)))
        return found

    def _numeric(self, context: Array, values: Array) -> tuple[Array, Array]:
        """Return context and values with the part of the numeric features that the model reads."""
        if self.numeric_as == "buckets":
            values = np.zeros_like(values)
        elif self.numeric_as == "values":
            context = np.array(context)
            context[:, self.store.numeric_fields] = 0
        return context, values

    def _numbers(self, rows: Array, item: Array, history: History, events: Array) -> Array:
        """Return float32 [B, NUMBERS] of items [B] shown to the users of `rows` at their times; events: int [T], items
        of the histories.
        """
        counts = self._counts(rows, item) if "counts" in self.numbers else np.zeros((len(rows), COUNTS), np.int32)
        return numbers_of(counts, self._repeats(item, history, events))

    def _counts(self, rows: Array, item: Array) -> Array:
        """Return int32 [B, 4], (labels, positives) of user and item; see `SampleSource.counts`."""
        counts = self.store.counts[rows]
        other = np.flatnonzero(item != self.store.item[rows])
        if len(other):
            counts[other, 2:] = self.store.item_counts(item[other], self.store.time[rows[other]])
        return counts

    def _repeats(self, item: Array, history: History, events: Array) -> Array:
        """Return float32 [B, REPEATS] of items [B] and the histories that they are shown with."""
        if "repeats" not in self.numbers:
            return np.zeros((len(item), REPEATS), np.float32)
        return repeats(item, history.of.numpy(), events, history.ago.numpy(), history.offsets.numpy(), self._items)

    def _states(self, rows: Array, history: History) -> dict[str, Any]:
        """Return the teacher's hidden states of each history, nothing where no model reads them."""
        if self.past is None:
            return {}
        firsts = np.flatnonzero(np.diff(history.of.numpy(), prepend=-1))
        states, counts = self.past(rows[firsts])
        return {"teacher_hidden": torch.from_numpy(states), "teacher_hidden_counts": torch.from_numpy(counts)}

    def _history(self, rows: Array) -> tuple[History, Array]:
        """Gather the newest `length` known events of each row, and return their items [T] too; neighbours with one user
        and time share a history.
        """
        if GIVEN_HISTORY in self.store.sequences:
            return self._sequence(GIVEN_HISTORY, rows)
        new = self.changes(rows)
        return self._shared(rows, new, self.store.history(rows[new], self.length))

    def _sequence(self, name: str, rows: Array) -> tuple[History, Array]:
        """Return the same of a sequence that the rows bring; neighbours with one user and time share it where their
        lists are equal.
        """
        new = np.diff(rows, prepend=-1) != 0
        at = np.flatnonzero(new)
        seen = self.store.given(name, rows[at], self.length)
        alike = as_before(seen.offsets, seen.item, seen.time) & ~self.changes(rows)[at]
        new[at[alike]] = False
        return self._shared(rows, new, without(seen, alike))

    def changes(self, rows: Array) -> Array:
        """Return bool [B]: whether a row has another user or time than the row before it."""
        user, time = self.store.user[rows], self.store.time[rows]
        new = np.ones(len(rows), bool)
        new[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
        return new

    def _shared(self, rows: Array, new: Array, seen: Events) -> tuple[History, Array]:
        """Return the history of each row, and the events' items: a row that is not `new` has that of the row before."""
        unique, index = dedupe(seen.item, self._items)
        ago = np.repeat(self.store.time[rows[new]], np.diff(seen.offsets)) - seen.time
        parts = (unique, index, ago, seen.action.astype(np.int64), seen.offsets, np.cumsum(new) - 1)
        return History(*map(torch.from_numpy, parts)), seen.item


def prefetch(work: Callable[[S], T], items: Iterable[S], depth: int = 4) -> Iterator[T]:
    """Yield work(item) in order, computed by one background thread at most `depth` ahead; its exceptions
    surface here.
    """
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
