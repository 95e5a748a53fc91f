"""The sample store: the events table as memory-mapped columns in log order, every id a small vocabulary index.

It is derived and disposable: built from pinned table versions in chunks, published by one atomic rename.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.columns import create_column, open_column, read_json, write_json
from recdistill.data.history import HistoryStore, build_histories
from recdistill.data.ids import Vocabulary
from recdistill.errors import UserError
from recdistill.tables import BehaviorLog, EventLog, EventSchema

__all__ = ["SampleStore", "build_store", "numeric_bucket"]

Array = np.ndarray[Any, np.dtype[Any]]
CHUNK = 131_072  # rows held in memory at a time
LIST_SLOTS = 8  # entries of a list feature that a model sees
MOST_ACTIONS = 255  # types of behavior; a history event has one byte for its own
Events = Iterator[tuple[Array, Array, Array, Array, Array]]  # user, item, time, known, action


def numeric_bucket(values: Array) -> Array:
    """Return int64 half-octave buckets, sign(x) floor(2 log2(1 + |x|)); NaN and infinities are 1000."""
    finite = np.isfinite(values)
    x = np.where(finite, values, 0.0)
    return np.where(finite, np.sign(x) * np.floor(2 * np.log2(1 + np.abs(x))), 1000).astype(np.int64)


def _field_values(rows: pl.DataFrame, schema: EventSchema) -> Iterator[tuple[str, pl.Series]]:
    """Yield (field, string key of every row) for the context fields: the hour of day and every scalar feature."""
    yield "hour", rows["time"].dt.hour().cast(pl.String)
    for name, kind in schema.features.items():
        if kind == "float32":
            yield (
                name,
                pl.Series(numeric_bucket(rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy())).cast(pl.String),
            )
        elif not kind.startswith("list"):
            yield name, rows[name].cast(pl.String).fill_null("")


def _encode_field(name: str, values: pl.Series, vocabulary: Vocabulary) -> Array:
    """Return int32 [n]; only the distinct values of the chunk meet the vocabulary."""
    distinct = values.unique(maintain_order=True)
    codes = vocabulary.encode((pl.lit(name + "=") + pl.Series("v", distinct)).pipe(pl.select).to_series(), grow=True)
    return np.asarray(values.replace_strict(distinct, pl.Series(codes), return_dtype=pl.Int32).to_numpy())


def _encode_list(name: str, values: pl.Series, vocabulary: Vocabulary) -> Array:
    """Return int32 [n, LIST_SLOTS], padded with 0."""
    out = np.zeros((len(values), LIST_SLOTS), np.int32)
    heads = pl.DataFrame({"v": values.cast(pl.List(pl.String)).list.head(LIST_SLOTS)}).with_row_index("row")
    flat = heads.explode("v").drop_nulls("v")
    if len(flat):
        slot = flat.select(pl.int_range(pl.len()).over("row")).to_series().to_numpy()
        out[flat["row"].to_numpy(), slot] = _encode_field(name, flat["v"], vocabulary)
    return out


class _Encoder:
    """The vocabularies of a store and the encoding of one chunk of rows."""

    def __init__(self, schema: EventSchema) -> None:
        self.schema = schema
        self.users, self.items, self.context = Vocabulary(), Vocabulary(), Vocabulary()
        self.actions: list[str] = []

    def action(self, names: pl.Series) -> Array:
        """Return uint8 [n], in the order in which action types were first met; UserError when there are too many."""
        self.actions += [name for name in names.unique(maintain_order=True).to_list() if name not in self.actions]
        if len(self.actions) > MOST_ACTIONS:
            raise UserError(f"behaviors: column 'action' has more than {MOST_ACTIONS} types (the last is {self.actions[-1]!r}); "
                            "name a column of few types as data.behaviors.action, or none")  # fmt: skip
        return np.asarray(names.replace_strict(self.actions, list(range(len(self.actions)))).to_numpy(), np.uint8)

    def rows(self, rows: pl.DataFrame) -> dict[str, Array]:
        schema, n = self.schema, len(rows)
        lists = [
            _encode_list(name, rows[name], self.context)
            for name, kind in schema.features.items()
            if kind.startswith("list")
        ]
        labels = [rows[f"label_{task}"].fill_null(np.nan).to_numpy() for task in schema.tasks]
        return {
            "sample_id": rows["sample_id"].to_numpy(),
            "time": rows["time"].dt.epoch("us").to_numpy(),
            "user": self.users.encode(rows["user_id"], grow=True),
            "item": self.items.encode(rows["item_id"], grow=True),
            "request": rows["request_id"].fill_null(-1).to_numpy() if schema.has_request else np.full(n, -1),
            "context": np.stack([_encode_field(f, v, self.context) for f, v in _field_values(rows, schema)], 1),
            "lists": np.concatenate(lists, 1) if lists else np.zeros((n, 0), np.int32),
            "labels": np.stack(labels, 1).astype(np.float32),
        }


def _columns(rows: int, schema: EventSchema) -> dict[str, tuple[tuple[int, ...], str]]:
    fields = 1 + sum(not kind.startswith("list") for kind in schema.features.values())
    slots = LIST_SLOTS * (len(schema.features) + 1 - fields)
    return {
        "sample_id": ((rows,), "int64"), "time": ((rows,), "int64"), "user": ((rows,), "int32"), "item": ((rows,), "int32"),
        "request": ((rows,), "int64"), "context": ((rows, fields), "int32"), "lists": ((rows, slots), "int32"),
        "labels": ((rows, len(schema.tasks)), "float32"), "known": ((rows,), "int64"), "upto": ((rows,), "int64"),
    }  # fmt: skip


def _known_time(rows: pl.DataFrame, schema: EventSchema) -> Array:
    """Return int64 us [n]: when the first task's outcome was known, the sample's own time unless the log says later."""
    column = f"label_time_{schema.tasks[0]}"
    time = rows["time"].dt.epoch("us")
    known = rows[column].dt.epoch("us").fill_null(np.iinfo(np.int64).max) if column in rows.columns else time
    return np.asarray(np.maximum(known.to_numpy(), time.to_numpy()))


def _write_samples(folder: Path, events: EventLog, version: int, rows: int, encoder: _Encoder) -> None:
    columns = {
        name: create_column(folder, name, *spec)
        for name, spec in _columns(rows, events.schema).items()
        if name != "upto"
    }
    at = 0
    for chunk in events.batches(version=version, rows=CHUNK):
        for name, values in encoder.rows(chunk).items():
            columns[name][at : at + len(chunk)] = values
        columns["known"][at : at + len(chunk)] = _known_time(chunk, events.schema)
        at += len(chunk)


def _sample_chunks(folder: Path) -> Events:
    """Yield the samples as history events: the action is the first task's outcome."""
    user, item, time, known, labels = (
        open_column(folder, name) for name in ("user", "item", "time", "known", "labels")
    )
    for at in range(0, len(user), CHUNK):
        part = slice(at, at + CHUNK)
        seen = ~np.isnan(labels[part, 0])
        action = labels[part, 0][seen].astype(np.uint8)
        yield user[part][seen], item[part][seen], time[part][seen], known[part][seen], action


def _behavior_chunks(behaviors: BehaviorLog, version: int, encoder: _Encoder) -> Events:
    for rows in behaviors.batches(version=version, rows=CHUNK):
        time = rows["time"].dt.epoch("us").to_numpy()
        user = encoder.users.encode(rows["user_id"], grow=True)
        yield user, encoder.items.encode(rows["item_id"], grow=True), time, time, encoder.action(rows["action"])


def _write_upto(folder: Path, histories: HistoryStore, rows: int) -> None:
    user, time = open_column(folder, "user"), open_column(folder, "time")
    upto = create_column(folder, "upto", (rows,), "int64")
    for at in range(0, rows, CHUNK):
        part = slice(at, at + CHUNK)
        upto[part] = histories.known_before(user[part], time[part])


def _write_by_id(folder: Path, rows: int) -> None:
    """Write the rows in order of sample id; ids that ascend with the log, as row numbers do, need no sort in memory."""
    ids, order = open_column(folder, "sample_id"), create_column(folder, "by_id", (rows,), "int64")
    parts = [slice(at, at + CHUNK) for at in range(0, rows, CHUNK)]
    if all((ids[part.start + 1 : part.stop + 1] > ids[part][: rows - part.start - 1]).all() for part in parts):
        for part in parts:
            order[part] = np.arange(part.start, min(part.stop, rows))
    else:
        order[:] = np.argsort(ids, kind="stable")


def build_store(folder: Path, events: EventLog, behaviors: BehaviorLog | None) -> SampleStore:
    """Build the store of the tables' current versions in `folder`, or reopen it when it is theirs already.

    Memory O(chunk + distinct ids), and two numbers per sample where sample ids do not ascend. Raises UserError, leaving
    nothing behind, for more than MOST_ACTIONS types of behavior.
    """
    pinned = {"events": events.version, "behaviors": behaviors.version if behaviors else None}
    if (folder / "store.json").exists() and read_json(folder / "store.json")["versions"] == pinned:
        return SampleStore(folder)
    part = folder.with_name(folder.name + ".part")
    for old in (part, folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        _build(part, events, behaviors, pinned)
    except UserError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.rename(folder)
    return SampleStore(folder)


def _build(part: Path, events: EventLog, behaviors: BehaviorLog | None, pinned: dict[str, Any]) -> None:
    """Write every column of the `pinned` versions into `part`."""
    rows, encoder = events.rows(pinned["events"]), _Encoder(events.schema)
    _write_samples(part, events, pinned["events"], rows, encoder)

    def chunks() -> Events:
        return _behavior_chunks(behaviors, pinned["behaviors"], encoder) if behaviors else _sample_chunks(part)

    if behaviors:
        for _ in chunks():  # the number of users must be known before positions are given out
            continue
    _write_upto(part, build_histories(part, chunks, len(encoder.users) + 1), rows)
    _write_by_id(part, rows)
    write_json(part / "store.json", {
        "versions": pinned, "rows": rows, "tasks": list(events.schema.tasks), "users": len(encoder.users) + 1,
        "items": len(encoder.items) + 1, "contexts": len(encoder.context) + 1,
        "actions": max(len(encoder.actions), 1) if behaviors else 2,
    })  # fmt: skip


class SampleStore:
    """The store, read-only; a column is an attribute. Cheap to open, shared by processes through the page cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = read_json(folder / "store.json")
        self.tasks: list[str] = about["tasks"]
        self.users, self.items, self.contexts = int(about["users"]), int(about["items"]), int(about["contexts"])
        self.actions = int(about["actions"])
        (
            self.sample_id,
            self.time,
            self.user,
            self.item,
            self.request,
            self.context,
            self.lists,
            self.labels,
            self.upto,
        ) = (
            open_column(folder, name)
            for name in ("sample_id", "time", "user", "item", "request", "context", "lists", "labels", "upto")
        )
        self.by_id = open_column(folder, "by_id")
        self.histories = HistoryStore(folder)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.sample_id)

    def positions(self, sample_id: Array) -> Array:
        """Return int64 [n]: the row of each sample id, -1 where it is not in the log."""
        if not len(self):
            return np.full(len(sample_id), -1)
        at = np.searchsorted(self.sample_id, sample_id, sorter=self.by_id).clip(0, len(self) - 1)
        row = self.by_id[at]
        return np.where(self.sample_id[row] == sample_id, row, -1)
