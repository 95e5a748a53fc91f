"""The sample store of a stream: rows as they arrive, each with the history that was known then, until they are dropped.

    events, behaviors, outcomes --> known later than the newest sample: wait
                                --> known by then: HistoryArena (each user's events since the hand-over),
                                                   LiveCounts (how many outcomes, by user and by item)
    a history = the user's last events in the batch phase's store, then those in the arena

State is bounded by the rows that wait, the events that wait, and the distinct ids; what happened lies in mapped files.
It is derived: `restore` returns False when the files are not there, and the caller feeds the commits again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recdistill.data.store.encoder import Encoder, action_count, known_times, numeric_fields
from recdistill.data.store.frozen_vectors import FrozenVectors, VectorRows
from recdistill.data.store.given import Given, LiveGiven
from recdistill.data.store.grouped import entries_since
from recdistill.data.store.growing_vocabulary import GrowingVocabulary
from recdistill.data.store.history import Events
from recdistill.data.store.history_arena import HistoryArena
from recdistill.data.store.label_order import NEVER
from recdistill.data.store.live_counts import LiveCounts
from recdistill.data.store.outcome_counts import SIDES
from recdistill.data.store.row_queue import RowQueue
from recdistill.data.store.sample_store import VOCABULARIES, SampleStore
from recdistill.data.store.shown import Shown
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["Encoded", "LiveStore", "end_of"]

CHUNK = 1 << 20  # history events looked at together
PIECE = 2048  # rows whose histories are looked up at a time
WAITING = {"user": "int32", "item": "int32", "time": "int64", "known": "int64", "action": "uint8"}


class Encoded(NamedTuple):
    """Samples as integers: columns by name, and the sequences that they bring."""

    columns: dict[str, Array]
    given: dict[str, Given]


def end_of(base: SampleStore) -> int:
    """Return the time in us up to which the batch phase's store counts; a stream counts from there."""
    return int(max(base.time[-CHUNK:].max(), base.time[0]))


class LiveStore:
    """Samples by position among those waiting (0: the oldest); a `SampleSource` of batch builders.

    base: the batch phase's store, None without one. behaviors: whether histories come from that table, not from
    outcomes. candidate_window: how many samples before a waiting one its candidates may be of; so many are kept. extra:
    further columns of a waiting row, name -> value at its arrival (an array or a number); the caller may write to them.
    vectors: of the log, by side.
    """

    def __init__(
        self,
        folder: Path,
        schema: EventSchema,
        base: SampleStore | None,
        behaviors: bool,
        candidate_window: int = 0,
        vectors: Mapping[str, FrozenVectors] | None = None,
    ) -> None:
        self.folder, self.base, self.behaviors, self.candidate_window = folder, base, behaviors, candidate_window
        self.vocabularies = {name: self._vocabulary(name, base) for name in VOCABULARIES}
        users, items, context = (self.vocabularies[name] for name in VOCABULARIES)
        self.encoder = Encoder(schema, users, items, context, base.action_names if base else ())
        self.positive_from = schema.positive_from
        self.actions = base.actions if base else action_count(schema, 1 if behaviors else 2)
        self._given = {name: LiveGiven() for name in schema.sequences}
        self.rows, self.arena, self.recent = RowQueue(), HistoryArena(folder / "arena"), RowQueue()
        self.newest = 0  # event time, us
        self._waiting = {name: np.zeros(0, kind) for name, kind in WAITING.items()}
        self._handed_over = 0
        if base is not None:
            self._take_over(base)
        self.vectors = dict(vectors or {})
        self._vector_rows = {
            side: VectorRows(found, base.vector_index[side] if base else np.zeros(1, np.int32))
            for side, found in self.vectors.items()
        }
        self.outcomes = {
            side: LiveCounts(folder / f"{side}_counts", base.outcomes[side] if base else None, self._handed_over)
            for side in SIDES
        }

    def _vocabulary(self, name: str, base: SampleStore | None) -> GrowingVocabulary:
        if base is None:
            return GrowingVocabulary(self.folder, name)
        known = {"users": base.users, "items": base.items, "context": base.contexts}[name] - 1
        return GrowingVocabulary(self.folder, name, base.folder / f"{name}.parquet", known)

    def _take_over(self, base: SampleStore) -> None:
        """Let what the batch phase's last sample did not know yet wait, so that it takes its place among what comes."""
        self.newest = self._handed_over = end_of(base)
        past = base.histories
        for late, user in entries_since(past.first, past.known, self._handed_over):
            columns = {"user": user.astype(np.int32), "item": past.item[late], "time": past.time[late]}
            self._wait(columns, past.known[late] < NEVER, past.known[late], past.action[late])

    def __len__(self) -> int:
        """Return the number of waiting samples."""
        return len(self.rows)

    def __getattr__(self, name: str) -> Any:
        """Return a column of the waiting samples."""
        if name.startswith("_") or "rows" not in self.__dict__:
            raise AttributeError(name)
        return self.rows[name]

    @property
    def users(self) -> int:
        """Return the size of the users' vocabulary, padding included."""
        return len(self.vocabularies["users"]) + 1

    @property
    def items(self) -> int:
        """Return the size of the items' vocabulary, padding included."""
        return len(self.vocabularies["items"]) + 1

    @property
    def contexts(self) -> int:
        """Return the size of the contexts' vocabulary, padding included."""
        return len(self.vocabularies["context"]) + 1

    @property
    def sequences(self) -> list[str]:
        """Return the names of the sequences that samples bring."""
        return list(self._given)

    @property
    def numeric_fields(self) -> list[int]:
        """Return the places of the buckets of numbers among the context fields."""
        return numeric_fields(self.encoder.schema)

    @property
    def waiting(self) -> int:
        """Return the number of events that were not known yet when the newest sample happened."""
        return len(self._waiting["user"])

    def add(self, rows: pl.DataFrame, **extra: Array | float) -> None:
        """Append samples, rows of the events table in their order."""
        self.append(self.encode(rows), **extra)

    def encode(self, rows: pl.DataFrame) -> Encoded:
        """Return samples as `append` takes them. Only vocabularies change, so another thread may do it
        meanwhile, in order.
        """
        columns, given = self.encoder.rows(rows)
        return Encoded(columns | {"known": known_times(rows, self.encoder.schema)[:, 0]}, given)

    def append(self, samples: Encoded, **extra: Array | float) -> None:
        """Append encoded samples, in the order in which they were encoded."""
        rows = len(samples.columns["time"])
        spans = {f"given_{name}": self._given[name].append(one) for name, one in samples.given.items()}
        whole = samples.columns | spans
        whole |= {name: np.broadcast_to(value, (rows, *np.shape(value)[1:])) for name, value in extra.items()}
        for at in range(0, rows, PIECE):
            self._append({name: values[at : at + PIECE] for name, values in whole.items()})

    def _append(self, columns: dict[str, Array]) -> None:
        known, labels = columns.pop("known"), columns["labels"][:, 0]
        self.newest = max(self.newest, int(columns["time"].max()))
        given = ~np.isnan(labels) & (known < NEVER)
        shown = {name: columns[name][given] for name in ("user", "item", "time")}
        self._outcome(shown, known[given], labels[given] >= self.positive_from, 1)
        self._release()
        if self.candidate_window:
            self.recent.append({name: columns[name] for name in Shown._fields})
        user, time = columns["user"], columns["time"]
        self.rows.append(
            columns
            | {"history_end": self.arena.history_end(user, time), "base": self._base_before(user, time)}
            | {"counts": np.hstack([self.outcomes[side].before(columns[side], time) for side in SIDES])}
        )

    def _base_before(self, user: Array, time: Array) -> Array:
        """Return int64 [n]: the end of each sample's history in the batch phase's store, 0 where it knows
        no such user.
        """
        if self.base is None:
            return np.zeros(len(user), np.int64)
        known = user < self.base.users
        user = np.where(known, user, 0)
        return np.where(known, self.base.histories.known_before(user, np.minimum(time, self._handed_over)), 0)

    def add_outcomes(self, samples: Array, known: Array, labels: Array, again: Array | None = None) -> None:
        """Add outcomes of waiting samples (positions [n]) that became known at `known` us; later samples see them.

        again: bool [n], which of them replace a negative of their sample; None for none.
        """
        columns = {name: self.rows[name][samples] for name in ("user", "item", "time")}
        self._outcome(columns, known, labels, 1 if again is None else ~again)

    def _outcome(self, columns: dict[str, Array], known: Array, labels: Array, new: Array | int) -> None:
        """Add outcomes [n] of samples of `columns`; new: 1 for a label, 0 where the sample has one already."""
        if not self.behaviors:
            self._wait(columns, np.ones(len(known), bool), known, labels)
        added = np.stack((np.broadcast_to(new, known.shape), labels), 1).astype(np.int32)
        for side, counts in self.outcomes.items():
            counts.add(columns[side], known, added)

    def encode_behaviors(self, rows: pl.DataFrame) -> dict[str, Array]:
        """Return behaviors as `append_behaviors` takes them; see `encode`."""
        user, item = (
            self.encoder.users.encode(rows["user_id"], grow=True),
            self.encoder.items.encode(rows["item_id"], grow=True),
        )
        return {
            "user": user,
            "item": item,
            "time": rows["time"].dt.epoch("us").to_numpy(),
            "action": self.encoder.action(rows["action"]),
        }

    def append_behaviors(self, columns: dict[str, Array]) -> None:
        """Add encoded behaviors; an action of a type that the batch phase did not know counts as its first."""
        action = columns["action"]
        self._wait(columns, np.ones(len(action), bool), columns["time"], np.where(action < self.actions, action, 0))

    def _wait(self, columns: dict[str, Array], which: Array, known: Array, action: Array) -> None:
        columns = columns | {"known": known, "action": action.astype(np.uint8)}
        self._waiting = {name: np.concatenate((old, columns[name][which])) for name, old in self._waiting.items()}

    def _release(self) -> None:
        """Let the waiting events known before the newest sample into the histories, in the order they became known."""
        waiting = self._waiting
        due = waiting["known"] < self.newest
        order = np.flatnonzero(due)
        order = order[np.argsort(waiting["known"][order], kind="stable")]
        self.arena.add(*(waiting[name][order] for name in WAITING))
        self._waiting = {name: values[~due] for name, values in waiting.items()}
        for counts in self.outcomes.values():
            counts.release(self.newest)

    def vector_rows(self, side: str, rows: Array, ids: Array) -> Array:
        """Return int32 [n], the row of each id's vector, 0 for none. side: item or user, whose `ids` [n] these are."""
        return self._vector_rows[side].of(ids, self.vocabularies[f"{side}s"])

    def item_counts(self, item: Array, time: Array) -> Array:
        """Return int32 [n, 2]: labels and positives of each item known strictly before a waiting sample's `time` us."""
        return self.outcomes["item"].before(item, time)

    def history(self, rows: Array, length: int) -> Events:
        """Return the newest `length` events known before each of `rows`, int64 [R] positions."""
        user, stop = self.rows["user"][rows], self.rows["history_end"][rows]
        start = np.maximum(stop - length, 0)
        return self.arena.gather(
            user, start, stop, self._base_history(user, self.rows["base"][rows], length - (stop - start))
        )

    def given(self, name: str, rows: Array, length: int) -> Events:
        """Return the newest `length` entries of a sequence that `rows` [R] bring."""
        return self._given[name].newest(self.rows[f"given_{name}"][rows], length)

    def _base_history(self, user: Array, stop: Array, length: Array) -> Events:
        if self.base is None:
            empty = np.zeros(len(user) + 1, np.int64)
            return Events(empty, np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.uint8))
        first = np.where(stop > 0, self.base.histories.first[np.minimum(user, self.base.users - 1)], 0)
        return self.base.histories.gather(np.maximum(first, stop - length), stop)

    def drop(self, rows: int) -> None:
        """Drop the oldest `rows` waiting samples."""
        for name, given in self._given.items() if rows else ():
            spans = self.rows[f"given_{name}"]
            given.drop(int(spans[rows, 0] if rows < len(spans) else spans[-1, 1]))
        self.rows.drop(rows)
        self.recent.drop(
            max(0, self.rows.first - self.candidate_window - self.recent.first) if self.candidate_window else 0
        )

    def places(self, rows: Array) -> Array:
        """Return int64 [n]: where in the log, the batch phase's samples first, the waiting samples at `rows` stand."""
        return np.asarray(rows + self.rows.first + (len(self.base) if self.base else 0))

    def items_at(self, places: Array) -> Shown:
        """Return what the samples at these places of the log show, at most `candidate_window` before a waiting one."""
        first = len(self.base) if self.base else 0
        at, old = np.maximum(places - first - self.recent.first, 0), np.flatnonzero(places < first)
        found = Shown(*(self.recent[name][at] for name in Shown._fields))
        if self.base is not None and len(old):
            for values, before in zip(found, self.base.items_at(places[old]), strict=True):
                values[old] = before
        return found

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return what `restore` takes, as (arrays, JSON values); what it refers to in `folder` is on disk
        afterwards.
        """
        sizes = {name: ids.save() for name, ids in self.vocabularies.items()}
        arrays = {f"waiting/{name}": values for name, values in self._waiting.items()}
        arrays |= {f"rows/{name}": values for name, values in self.rows.state().items()}
        arrays |= {f"recent/{name}": values for name, values in self.recent.state().items()}
        arrays |= {f"heads/{name}": values for name, values in self.arena.heads().items()}
        for side, counts in self.outcomes.items():
            arrays |= {f"{side}_counts/{name}": values for name, values in counts.state().items()}
        for sequence, given in self._given.items():
            arrays |= {f"given_{sequence}/{name}": values for name, values in given.entries.state().items()}
        return arrays, {
            "given": {name: given.entries.first for name, given in self._given.items()},
            "first": self.rows.first,
            "recent": self.recent.first,
            "newest": self.newest,
            "ids": {name: len(ids) for name, ids in self.vocabularies.items()},
            "ids_bytes": sizes,
            "actions": self.encoder.actions,
        }

    def clear(self) -> None:
        """Remove what an earlier store left in `folder`; this one has seen nothing yet."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def restore(self, arrays: dict[str, Array], state: dict[str, Any]) -> bool:
        """Load what `state` gave; False, and nothing usable, when `folder` lacks what it refers to."""
        parts: dict[str, dict[str, Array]] = {"waiting": {}, "rows": {}, "recent": {}, "heads": {}}
        parts |= {f"{side}_counts": {} for side in SIDES} | {f"given_{name}": {} for name in self._given}
        for key, values in arrays.items():
            part, name = key.split("/", 1)
            parts[part][name] = values
        known, sizes = state["ids"], state["ids_bytes"]
        if not all(ids.restore(known[name], sizes[name]) for name, ids in self.vocabularies.items()):
            return False
        if not self.arena.restore(parts["heads"]):
            return False
        if not all(counts.restore(parts[f"{side}_counts"]) for side, counts in self.outcomes.items()):
            return False
        self.encoder.actions = list(state["actions"])
        self.newest, self._waiting = state["newest"], parts["waiting"]
        self.rows.restore(state["first"], parts["rows"])
        for name, given in self._given.items():
            given.entries.restore(state["given"][name], parts[f"given_{name}"])
        self.recent.restore(state["recent"], parts["recent"])
        return True
