"""The sample store: the events table as memory-mapped columns in log order, every id a small vocabulary index.

It is derived and disposable: built from pinned table versions in chunks, published by one atomic rename.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.store.encoder import Encoder, action_count, field_counts, known_times, numeric_fields, value_count
from recdistill.data.store.frozen_vectors import VECTORS, FrozenVectors, open_vectors, rows_of_ids
from recdistill.data.store.given import GivenFile, GivenWriter
from recdistill.data.store.history import Events, HistoryStore, build_histories
from recdistill.data.store.label_order import LabelClock, LabelOrder, late_alone, write_order
from recdistill.data.store.memmap import create_column, open_column, read_json, sync, write_json
from recdistill.data.store.outcome_counts import SIDES, OutcomeCounts
from recdistill.data.store.piles import in_order
from recdistill.data.store.shards import Samples, write_groups, write_looked_up, writers
from recdistill.data.store.shown import Shown, shown_at
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.defaults import GIVEN_HISTORY
from recdistill.errors import UserError
from recdistill.tables.events import BehaviorLog, EventLog
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array
from recdistill.workers.parts import ALONE, Workers

__all__ = ["SampleStore", "build_store"]

SAMPLE_COLUMNS = (
    "sample_id",
    "time",
    "user",
    "item",
    "request",
    "context",
    "lists",
    "values",
    "weight",
    "labels",
    "draw_offset",
    "row_vectors",
)
REVISION = 4  # of the store's files; 2: counts; 3: values, sequences, weight, draw_offset, vectors; 4: tables of ids
VOCABULARIES = ("users", "items", "context")
WITH_SAMPLES = LabelClock()
CHUNK = 131_072  # rows held in memory at a time
LISTS = 16_384  # the same of rows that bring sequences
Chunks = Iterator[tuple[Array, Array, Array, Array, Array]]  # user, item, time, known, action


def _columns(rows: int, schema: EventSchema) -> dict[str, tuple[tuple[int, ...], str]]:
    fields, slots = field_counts(schema)
    return {
        "sample_id": ((rows,), "int64"),
        "time": ((rows,), "int64"),
        "user": ((rows,), "int32"),
        "item": ((rows,), "int32"),
        "request": ((rows,), "int64"),
        "context": ((rows, fields), "int32"),
        "lists": ((rows, slots), "int32"),
        "values": ((rows, value_count(schema)), "float32"),
        "weight": ((rows,), "float32"),
        "labels": ((rows, len(schema.tasks)), "float32"),
        "draw_offset": ((rows, int(schema.corrected)), "float32"),
        "row_vectors": ((rows, dict(schema.vector_widths).get("row", 0)), "float32"),
        "known": ((rows, len(schema.tasks)), "int64"),
        **{f"given_{name}": ((rows, 2), "int64") for name in schema.sequences},
    }


def _write_samples(folder: Path, events: EventLog, version: int, rows: int, encoder: Encoder) -> None:
    columns = {name: create_column(folder, name, *spec) for name, spec in _columns(rows, events.schema).items()}
    at, writers = 0, {name: GivenWriter(folder, name) for name in events.schema.sequences}
    for chunk in events.batches(
        version=version, rows=events.schema.rows_at_a_time(min(CHUNK, LISTS) if writers else CHUNK)
    ):
        encoded, given = encoder.rows(chunk)
        encoded |= {f"given_{name}": writers[name].append(one) for name, one in given.items()}
        for name, values in encoded.items():
            columns[name][at : at + len(chunk)] = values
        columns["known"][at : at + len(chunk)] = known_times(chunk, events.schema)
        at += len(chunk)


def _behavior_chunks(behaviors: BehaviorLog, version: int, encoder: Encoder) -> Chunks:
    for rows in behaviors.batches(version=version, rows=CHUNK):
        time = rows["time"].dt.epoch("us").to_numpy()
        user = encoder.users.encode(rows["user_id"], grow=True)
        yield user, encoder.items.encode(rows["item_id"], grow=True), time, time, encoder.action(rows["action"])


def _write_by_id(folder: Path, rows: int) -> None:
    """Write the rows in order of sample id; ids that ascend with the log, as row numbers do, need no sort in memory."""
    ids, order = open_column(folder, "sample_id"), create_column(folder, "by_id", (rows,), "int64")
    parts = [slice(at, at + CHUNK) for at in range(0, rows, CHUNK)]
    if all((ids[part.start + 1 : part.stop + 1] > ids[part][: rows - part.start - 1]).all() for part in parts):
        for part in parts:
            order[part] = np.arange(part.start, min(part.stop, rows))
        return
    numbered = (pl.DataFrame({"id": ids[part], "row": np.arange(part.start, min(part.stop, rows))}) for part in parts)
    at = 0
    for found in in_order(numbered, ["id"], folder):
        order[at : at + len(found)] = found["row"].to_numpy()
        at += len(found)


def build_store(
    folder: Path,
    events: EventLog,
    behaviors: BehaviorLog | None,
    versions: dict[str, int | None] | None = None,
    clock: LabelClock = WITH_SAMPLES,
    workers: Workers = ALONE,
) -> SampleStore:
    """Build the store of the tables' `versions` (default: the newest) in `folder`, or reopen it when it is theirs
    already. clock: when labels count; workers: who writes what is kept by user and by item.

    Memory O(chunk + distinct ids). Raises UserError, leaving
    nothing behind, for more than MAX_ACTIONS types of behavior, and where the disk is full.
    """
    clock = replace(clock, positive_from=events.schema.positive_from)
    pinned = versions or {"events": events.version, "behaviors": behaviors.version if behaviors else None}
    if (folder / "store.json").exists():
        about = read_json(folder / "store.json")
        wanted = {"revision": REVISION, "versions": pinned, "clock": asdict(clock)}
        if all(about.get(name) == value for name, value in wanted.items()):
            return SampleStore(folder)
    part = folder.with_name(folder.name + ".part")
    for old in (part, folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        _build(part, events, behaviors, pinned, clock, writers(workers, part))
        for file in part.iterdir() if workers.engine == "ray" else ():
            sync(file)  # before other machines read it
    except (UserError, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder}: cannot be built: {error.strerror or error}") from None
    part.rename(folder)
    return SampleStore(folder)


def _build(
    part: Path,
    events: EventLog,
    behaviors: BehaviorLog | None,
    pinned: dict[str, Any],
    clock: LabelClock,
    workers: Workers,
) -> None:
    """Write every column of the `pinned` versions into `part`."""
    rows, vocabularies = events.rows(pinned["events"]), {name: Vocabulary() for name in VOCABULARIES}
    users, items, context = vocabularies.values()
    encoder = Encoder(events.schema, users, items, context)
    _write_samples(part, events, pinned["events"], rows, encoder)

    def chunks() -> Chunks:
        return _behavior_chunks(behaviors, pinned["behaviors"], encoder) if behaviors else iter(())

    for _ in chunks():  # the number of users must be known before positions are given out
        continue
    samples, sizes = Samples(part, clock), {"user": len(encoder.users) + 1, "item": len(encoder.items) + 1}
    of_samples = behaviors is None and events.schema.has_histories
    if not of_samples:
        build_histories(part, chunks, sizes["user"])
    write_groups(samples, sizes, of_samples, workers)
    write_looked_up(samples, rows, workers)
    _write_by_id(part, rows)
    write_order(part, clock, *(open_column(part, name) for name in ("time", "labels", "known")))
    for name, ids in vocabularies.items():
        ids.save(part / f"{name}.parquet")
    vectors = open_vectors(events.path.parent / VECTORS, events.schema)
    for side, found in vectors.items():
        rows_of_ids(part, f"{side}_vector", found, vocabularies[f"{side}s"])
    write_json(
        part / "store.json",
        {
            "revision": REVISION,
            "versions": pinned,
            "clock": asdict(clock),
            "rows": rows,
            "tasks": list(events.schema.tasks),
            "users": len(encoder.users) + 1,
            "items": len(encoder.items) + 1,
            "contexts": len(encoder.context) + 1,
            "actions": action_count(events.schema, max(len(encoder.actions), 1) if behaviors else 2),
            "action_names": encoder.actions,
            "sequences": list(events.schema.sequences),
            "numeric_fields": numeric_fields(events.schema),
            "vectors": {side: os.path.relpath(found.folder, part) for side, found in vectors.items()},
        },
    )


class SampleStore:
    """The store, read-only; a column is an attribute. Cheap to open, shared by processes through the page cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = read_json(folder / "store.json")
        self.tasks: list[str] = about["tasks"]
        self.users, self.items, self.contexts = int(about["users"]), int(about["items"]), int(about["contexts"])
        self.actions, self.action_names = int(about["actions"]), list(about["action_names"])
        self.numeric_fields: list[int] = about["numeric_fields"]
        (
            self.sample_id,
            self.time,
            self.user,
            self.item,
            self.request,
            self.context,
            self.lists,
            self.values,
            self.weight,
            self.labels,
            self.draw_offset,
            self.row_vectors,
            self.known,
            self.history_end,
            self.counts,
        ) = (open_column(folder, name) for name in (*SAMPLE_COLUMNS, "known", "history_end", "counts"))
        self.outcomes = {side: OutcomeCounts(folder, side) for side in SIDES}
        self.clock, self.label_order = LabelClock(**about["clock"]), LabelOrder.open(folder)
        self.sequences: list[str] = about["sequences"]
        self._given = {name: GivenFile(folder, name, open_column(folder, f"given_{name}")) for name in self.sequences}
        self.by_id = open_column(folder, "by_id")
        self.histories = HistoryStore(folder)
        self.vectors: dict[str, FrozenVectors] = {
            side: FrozenVectors(folder / where, side) for side, where in about["vectors"].items()
        }
        self.vector_index = {side: open_column(folder, f"{side}_vector") for side in self.vectors}

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.sample_id)

    def places(self, rows: Array) -> Array:
        """Return int64 [n]: where in the log the samples at `rows` stand; here it is the same."""
        return rows

    def items_at(self, places: Array) -> Shown:
        """Return what the samples at these places of the log show."""
        return shown_at(self, places)

    def vector_rows(self, side: str, rows: Array, ids: Array) -> Array:
        """Return int32 [n], the row of each id's vector, 0 for none. side: item or user, whose `ids` [n] these are."""
        return np.asarray(self.vector_index[side][ids])

    def counts_of(self, user: Array, item: Array, time: Array) -> Array:
        """Return int32 [n, 4]: labels and positives of each user, then of each item, known strictly before `time`
        us [n].
        """
        return np.hstack([self.outcomes["user"].before(user, time), self.item_counts(item, time)])

    def item_counts(self, item: Array, time: Array) -> Array:
        """Return int32 [n, 2]: labels and positives of each item known strictly before `time` us [n]."""
        return self.outcomes["item"].before(item, time)

    def labels_as_of(self, rows: Array, now: Array | int) -> tuple[Array, Array]:
        """Return (float32 [n, K] labels, bool [n]: whether a sample may be learned) of the samples at `rows`, as was
        known before `now` us; of labels that come with their samples all.
        """
        if self.label_order is None:
            return self.labels[rows], np.ones(len(rows), bool)
        return self.clock.as_of(self.time[rows], self.labels[rows], self.known[rows], now)

    def known_before(self, row: int) -> int:
        """Return how many entries of the order in which labels become known come before the sample at `row`."""
        return row if self.label_order is None else self.label_order.known_before(int(self.time[row]))

    def entries(self, low: int, high: int) -> tuple[Array, Array]:
        """Return (rows int64 [n], labels float32 [n, K]) of the entries [low, high) of that order, as they were learned
        first; see `late_alone`.
        """
        if self.label_order is None:
            return np.arange(low, high), self.labels[low:high]
        rows, at, late = (np.asarray(getattr(self.label_order, name)[low:high]) for name in ("rows", "at", "late"))
        labels, _ = self.labels_as_of(rows, at + 1)
        return rows, late_alone(labels, late)

    def history(self, rows: Array, length: int) -> Events:
        """Return the newest `length` events known before each of `rows`, int64 [R] store positions."""
        history_end = self.history_end[rows]
        return self.histories.gather(
            np.maximum(self.histories.first[self.user[rows]], history_end - length), history_end
        )

    def given(self, name: str, rows: Array, length: int) -> Events:
        """Return the newest `length` entries of a sequence that `rows` [R] bring."""
        return self._given[name].newest(rows, length)

    def given_lengths(self, name: str, rows: Array | slice) -> Array:
        """Return int64 [n]: how many entries a sequence has that the samples at `rows` bring."""
        return np.asarray(np.diff(self._given[name].spans[rows], axis=1)[:, 0])

    def history_lengths(self, rows: Array | slice) -> Array:
        """Return int64 [n]: how many events there are in the whole histories of the samples at `rows`."""
        if GIVEN_HISTORY in self._given:
            return self.given_lengths(GIVEN_HISTORY, rows)
        return np.asarray(self.history_end[rows] - self.histories.first[self.user[rows]])

    def positions(self, sample_id: Array) -> Array:
        """Return int64 [n]: the row of each sample id, -1 where it is not in the log."""
        if not len(self) or not len(sample_id):
            return np.full(len(sample_id), -1)
        first = int(np.searchsorted(self.sample_id, sample_id[0], sorter=self.by_id))
        run = self.by_id[first : first + len(sample_id)]
        if np.array_equal(self.sample_id[run], sample_id):  # models record in the order of the log
            return np.array(run)
        at = np.searchsorted(self.sample_id, sample_id, sorter=self.by_id).clip(0, len(self) - 1)
        row = self.by_id[at]
        return np.where(self.sample_id[row] == sample_id, row, -1)
