"""Rows of the tables to arrays of small integers: the vocabularies of a store, and the columns every sample has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from recdistill.data.buckets import ANY_SCALE, bucket_of
from recdistill.data.keys import context_key
from recdistill.data.scales import ANY_VALUE, scaled
from recdistill.data.store.given import Given
from recdistill.data.store.label_order import NEVER
from recdistill.data.store.vocabulary import distinct_of
from recdistill.defaults import GIVEN_HISTORY
from recdistill.errors import UserError
from recdistill.tables.regression import Regression
from recdistill.tables.schema import EventSchema, feature_column, vector_column
from recdistill.tables.sequences import sequence_column, times_column
from recdistill.typing import Array

__all__ = [
    "MAX_ACTIONS",
    "Encoder",
    "IdEncoder",
    "action_count",
    "context_fields",
    "draw_offset",
    "field_counts",
    "known_times",
    "list_entries",
    "list_fields",
    "numeric_fields",
    "numeric_names",
    "row_vectors",
    "value_count",
]

MAX_ACTIONS = 255  # types of behavior; a history event has one byte for its own


class IdEncoder(Protocol):
    """A vocabulary: see `Vocabulary`."""

    def __len__(self) -> int: ...
    def encode(self, values: pl.Series, grow: bool) -> Array: ...


def field_counts(schema: EventSchema) -> tuple[int, int]:
    """Return (context fields, list slots) of a sample: see `context_fields`; `list_length` slots per list."""
    fields = len(context_fields(schema))
    return fields, schema.list_length * (len(schema.features) + 1 - fields)


def context_fields(schema: EventSchema) -> list[str]:
    """Return the features of the context fields, in the order of the columns; the first, "", is the hour of day."""
    return ["", *(name for name, kind in schema.features.items() if not kind.startswith("list"))]


def list_fields(schema: EventSchema) -> list[str]:
    """Return the list features, in the order of their slots."""
    return [name for name, kind in schema.features.items() if kind.startswith("list")]


def action_count(schema: EventSchema, gathered: int) -> int:
    """Return how many action types history events have: of histories that rows bring one, else the `gathered` ones."""
    return 1 if GIVEN_HISTORY in schema.sequences else gathered


def numeric_names(schema: EventSchema) -> list[str]:
    """Return the numeric features, in the order of their values: two columns each, the value and whether it is
    missing.
    """
    return [name for name, kind in schema.features.items() if kind == "float32"]


def value_count(schema: EventSchema) -> int:
    """Return how many columns of values a sample has."""
    return 2 * len(numeric_names(schema))


def numeric_fields(schema: EventSchema) -> list[int]:
    """Return the places, among the context fields, of the buckets of numbers."""
    return [at for at, name in enumerate(context_fields(schema)) if schema.features.get(name) == "float32"]


def _field_values(rows: pl.DataFrame, schema: EventSchema) -> Iterator[tuple[str, pl.Series]]:
    """Yield (field, value of every row, equal where models see no difference) for the context fields: the hour of day
    and every scalar feature, a numeric one by its bucket.
    """
    yield "", rows["time"].dt.hour().cast(pl.String)
    for name, kind in schema.features.items():
        if kind.startswith("list"):
            continue
        if kind == "float32":
            yield name, pl.Series(bucket_of(_numbers(rows, name), schema.edges.get(name, ANY_SCALE)))
        else:
            yield name, rows[feature_column(name)].cast(pl.String).fill_null("")


def _numbers(rows: pl.DataFrame, name: str) -> Array:
    """Return float64 [n] of a numeric feature, NaN where it is missing."""
    return rows[feature_column(name)].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _values(rows: pl.DataFrame, schema: EventSchema) -> Array:
    """Return float32 [n, value_count]."""
    found = [scaled(_numbers(rows, name), schema.scales.get(name, ANY_VALUE)) for name in numeric_names(schema)]
    return np.hstack(found) if found else np.zeros((len(rows), 0), np.float32)


def _lists(rows: pl.DataFrame, schema: EventSchema) -> Iterator[tuple[str, Array, pl.Series]]:
    """Yield (field, row of every value, values) for the list features."""
    for name, kind in schema.features.items():
        if kind.startswith("list"):
            yield name, *list_entries(rows[feature_column(name)], schema.list_length)


def list_entries(values: pl.Series, length: int) -> tuple[Array, pl.Series]:
    """Return (row, value) of the last `length` entries of every list, in their order; null ones do not count."""
    tails = pl.DataFrame({"v": values.cast(pl.List(pl.String)).list.drop_nulls().list.tail(length)})
    flat = tails.with_row_index("row").explode("v").drop_nulls("v")
    return flat["row"].to_numpy().astype(np.int64), flat["v"]


class Encoder:
    """The vocabularies of a store and the encoding of one chunk of rows; ids are numbered in the order of
    their arrival.
    """

    def __init__(
        self, schema: EventSchema, users: IdEncoder, items: IdEncoder, context: IdEncoder, actions: Sequence[str] = ()
    ) -> None:
        self.schema = schema
        self.users, self.items, self.context = users, items, context
        self.actions = list(actions)

    def action(self, names: pl.Series) -> Array:
        """Return uint8 [n], in the order in which action types were first met; UserError when there are too many."""
        self.actions += [name for name in names.unique(maintain_order=True).to_list() if name not in self.actions]
        if len(self.actions) > MAX_ACTIONS:
            raise UserError(
                f"behaviors: column 'action' has more than {MAX_ACTIONS} types (the last is {self.actions[-1]!r}); "
                "name a column of few types as data.behaviors.action, or none"
            )
        return np.asarray(names.replace_strict(self.actions, list(range(len(self.actions)))).to_numpy(), np.uint8)

    def rows(self, rows: pl.DataFrame) -> tuple[dict[str, Array], dict[str, Given]]:
        """Return (the columns of a sample store for a chunk of the events table, but for those about histories; the
        sequences that its rows bring, by name).

        What is new to a vocabulary is numbered in the order of rows, so that it does not matter how they are cut.
        """
        schema, n = self.schema, len(rows)
        weight = rows["weight"].fill_null(1.0).to_numpy() if schema.has_weight else np.ones(n, np.float32)
        labels = [
            _learned(rows[f"label_{task}"].fill_null(np.nan).to_numpy(), schema.rule(task)) for task in schema.tasks
        ]
        context, lists = self._context(rows)
        item, given = self._items(rows)
        return {
            "sample_id": rows["sample_id"].to_numpy(),
            "time": rows["time"].dt.epoch("us").to_numpy(),
            "user": self.users.encode(rows["user_id"], grow=True) if schema.has_user else np.zeros(n, np.int32),
            "item": item,
            "request": rows["request_id"].fill_null(-1).to_numpy() if schema.has_request else np.full(n, -1),
            "context": context,
            "lists": lists,
            "values": _values(rows, schema),
            "weight": weight,
            "labels": np.stack(labels, 1).astype(np.float32),
            "draw_offset": draw_offset(rows, schema),
            "row_vectors": row_vectors(rows, schema),
        }, given

    def _items(self, rows: pl.DataFrame) -> tuple[Array, dict[str, Given]]:
        """Return int32 [n], the items of the rows, and their sequences."""
        if not self.schema.sequences:
            return self.items.encode(rows["item_id"], grow=True), {}
        lists = [rows[sequence_column(name)].fill_null([]) for name in self.schema.sequences]
        lengths = [one.list.len().to_numpy().astype(np.int64) for one in lists]
        entries = [one.filter(one.list.len() > 0).explode() for one in lists]
        item, *codes = self._in_order_of_rows([rows["item_id"], *entries], lengths)
        given = {}
        for (name, timed), found, count in zip(self.schema.sequences.items(), codes, lengths, strict=True):
            time = rows[times_column(name)].explode().drop_nulls() if timed else rows["time"]
            us = time.dt.epoch("us").to_numpy()
            given[name] = Given(np.r_[0, np.cumsum(count)], found, us if timed else np.repeat(us, count))
        return item, given

    def _in_order_of_rows(self, columns: list[pl.Series], lengths: list[Array]) -> list[Array]:
        """Return the codes of `columns`: an id per row, then those of lists of `lengths` [n]; new ones are numbered row
        by row, of one row in the order of the columns.
        """
        rows = np.arange(len(columns[0]))
        ids, of = pl.concat(columns), np.concatenate([rows, *(np.repeat(rows, count) for count in lengths)])
        codes = self.items.encode(ids, grow=False)
        new = np.flatnonzero(codes == 0)
        if len(new):
            new = new[np.argsort(of[new], kind="stable")]
            codes = codes.copy()
            codes[new] = self.items.encode(ids[new], grow=True)
        return np.split(codes, np.cumsum([len(column) for column in columns])[:-1])

    def _context(self, rows: pl.DataFrame) -> tuple[Array, Array]:
        """Return int32 [n, fields] and int32 [n, list slots], the latter padded with 0."""
        everywhere = np.arange(len(rows))
        fields = [_Field.of(name, values, everywhere) for name, values in _field_values(rows, self.schema)]
        lists = [_Field.of(name, values, row) for name, row, values in _lists(rows, self.schema)]
        codes = iter(self._codes([*fields, *lists]))
        context = np.stack([next(codes) for _ in fields], 1)
        length = self.schema.list_length
        slots = np.zeros((len(rows), length * len(lists)), np.int32)
        for k, field in enumerate(lists):
            place = np.arange(len(field.row)) - np.searchsorted(field.row, field.row)
            slots[field.row, k * length + place] = next(codes)
        return context, slots

    def _codes(self, fields: list[_Field]) -> list[Array]:
        """Return int32 [values] of each field; all distinct values are looked up at once."""
        keys = pl.concat([field.keys for field in fields])
        codes = self.context.encode(keys, grow=False)
        new = np.flatnonzero(codes == 0)
        if len(new):
            new = new[np.argsort(np.concatenate([field.first() for field in fields])[new], kind="stable")]
            codes = codes.copy()
            codes[new] = self.context.encode(keys[new], grow=True)
        ends = np.cumsum([len(field.keys) for field in fields])
        return [codes[end - len(field.keys) : end][field.at] for end, field in zip(ends, fields, strict=True)]


def _learned(label: Array, rule: Regression | None) -> Array:
    """Return a task's labels as models learn them."""
    return label if rule is None else rule.learned(label)


def row_vectors(rows: pl.DataFrame, schema: EventSchema) -> Array:
    """Return float32 [n, V] of the vectors that rows bring themselves: of each its entries, scaled, and whether it is
    missing.
    """
    parts = [np.zeros((len(rows), 0), np.float32)]
    for name, (_, width, scale) in schema.row_vectors.items():
        values = rows[vector_column(name)]
        given, part = values.is_not_null().to_numpy(), np.zeros((len(rows), width + 1), np.float32)
        part[given, :width] = values.drop_nulls().explode().to_numpy().reshape(-1, width) * np.float32(scale)
        part[~given, width] = 1
        parts.append(part)
    return np.concatenate(parts, 1)


@dataclass(frozen=True)
class _Field:
    """A context field of a chunk: its distinct values as keys, the place of each value among them, the row
    of each value.
    """

    keys: pl.Series
    at: Array
    row: Array

    @classmethod
    def of(cls, name: str, values: pl.Series, row: Array) -> _Field:
        distinct, at = distinct_of(values)
        return cls(pl.Series([context_key(name, value) for value in distinct], dtype=pl.String), at, row)

    def first(self) -> Array:
        """Return the row in which each distinct value stands first."""
        return self.row[np.unique(self.at, return_index=True)[1]] if len(self.at) else self.row


def known_times(rows: pl.DataFrame, schema: EventSchema) -> Array:
    """Return int64 us [n, K]: when each task's outcome was known, the sample's own time unless the log has a later
    one, NEVER where it has none.
    """
    time = rows["time"].dt.epoch("us")
    known = [
        rows[name].dt.epoch("us").fill_null(NEVER) if (name := f"label_time_{task}") in rows.columns else time
        for task in schema.tasks
    ]
    return np.stack([np.maximum(column.to_numpy(), time.to_numpy()) for column in known], 1)


def draw_offset(rows: pl.DataFrame, schema: EventSchema) -> Array:
    """Return float32 [n, 1]: what the draw of negatives adds to the log-odds of each row, where models are corrected
    for it, else [n, 0].

    Among `negatives` draws with probability q each, a pair of true odds p has the odds p / (negatives q) of being the
    positive (Gutmann and Hyvarinen 2010; Yi et al., RecSys 2019). 0 for a row without q: nobody drew for it.
    """
    if not schema.corrected:
        return np.zeros((len(rows), 0), np.float32)
    offset = -(rows["log_q"].cast(pl.Float64) + math.log(schema.negatives))
    return offset.fill_null(0.0).to_numpy().astype(np.float32)[:, None]
