"""One pass over a store and one over its table's features, which count what a DataSummary holds.

Memory: a chunk, and a few numbers per id and per value of a feature, as the store's own vocabularies have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl

from recdistill.data.buckets import ANY_SCALE
from recdistill.data.keys import empty_key
from recdistill.data.sampling import GOLDEN, mixed, paired
from recdistill.data.scales import ANY_VALUE, scale_words
from recdistill.data.store.encoder import context_fields, list_fields
from recdistill.data.store.sample_store import CHUNK, SampleStore
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.evaluate.data_summary import DataSummary, FeatureSummary, Ids, SequenceSummary, TaskRate
from recdistill.evaluate.distinct import Distinct
from recdistill.evaluate.feature_scores import feature_scores
from recdistill.tables.delta.types import moment_of
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema, feature_column
from recdistill.typing import Array

__all__ = ["describe"]

SCORED = 200_000  # rows, evenly spaced, on which features are scored alone
HELD = 1 << 20  # rows of one instant that are remembered across chunks


def describe(store: SampleStore, events: EventLog, version: int) -> DataSummary:
    """Return what the samples of a store hold; it was made of `version` of the events, which has rows."""
    schema = events.schema
    repeated, requests = _rows_of(store)
    return DataSummary(
        version=version,
        rows=len(store),
        first=moment_of(store.time[0]) if schema.has_time else None,
        last=moment_of(store.time[-1]) if schema.has_time else None,
        users=_ids(store.user, store.users) if schema.has_user else None,
        items=_ids(store.item, store.items),
        requests=requests if schema.has_request else None,
        repeated=repeated if schema.has_histories else None,
        tasks=_rates(store, schema),
        features=_features(store, events, version),
        sequences=[_sequence(store, name) for name in store.sequences],
    )


def _sequence(store: SampleStore, name: str) -> SequenceSummary:
    some = entries = longest = 0
    for part in _parts(len(store)):
        lengths = store.given_lengths(name, part)
        some, entries = some + int((lengths > 0).sum()), entries + int(lengths.sum())
        longest = max(longest, int(lengths.max(initial=0)))
    return SequenceSummary(sequence=name, empty=1 - some / len(store), mean=entries / max(some, 1), longest=longest)


def _parts(rows: int) -> Iterator[slice]:
    return (slice(at, min(at + CHUNK, rows)) for at in range(0, rows, CHUNK))


def _ids(column: Array, size: int) -> Ids:
    counts = np.zeros(size, np.int64)
    for at in range(0, len(column), 32 * CHUNK):  # so that a chunk is seldom smaller than the number of ids
        counts += np.bincount(column[at : at + 32 * CHUNK], minlength=size)
    return Ids(distinct=int((counts > 0).sum()), once=int((counts == 1).sum()))


def _rates(store: SampleStore, schema: EventSchema) -> list[TaskRate]:
    known, positive = np.zeros(len(store.tasks)), np.zeros(len(store.tasks))
    for part in _parts(len(store)):
        known += (~np.isnan(store.labels[part])).sum(0)
        positive += np.nansum(store.labels[part], 0, dtype=np.float64)
    return [
        TaskRate(
            task=task, rows=int(rows), positive=float(ones / rows) if rows and task not in schema.regression else None
        )
        for task, rows, ones in zip(store.tasks, known, positive, strict=True)
    ]


def _rows_of(store: SampleStore) -> tuple[int, int]:
    """Return (rows that repeat user, item and time of an earlier one, different requests of a user).

    Equal times stand together, so a chunk is looked at with the rows of the last instant before it; of an instant with
    more than HELD rows some are forgotten.
    """
    repeated, requests, held, instant = 0, Distinct(), np.zeros(0, np.uint64), None
    for part in _parts(len(store)):
        user, time = store.user[part].astype(np.uint64), np.asarray(store.time[part])
        key = mixed(paired(user, store.item[part].astype(np.uint64)) + time.astype(np.uint64))
        distinct = np.unique(key)
        repeated += len(key) - len(distinct)
        if time[0] == instant:
            repeated += int(np.isin(distinct, held).sum())
        last = np.unique(key[time == time[-1]])
        held = np.union1d(held, last)[:HELD] if time[-1] == instant else last
        instant = time[-1]
        asked = store.request[part] >= 0
        requests.add(mixed(user[asked] * GOLDEN) + store.request[part][asked].astype(np.uint64))
    return repeated, min(requests.count(), len(store))


def _features(store: SampleStore, events: EventLog, version: int) -> list[FeatureSummary]:
    schema, rows = events.schema, len(store)
    seen = {name: _Values(kind, schema.list_length) for name, kind in schema.features.items()}
    for chunk in events.batches(version=version, columns=[*map(feature_column, seen)], rows=CHUNK) if seen else ():
        for name, values in seen.items():
            values.add(chunk[feature_column(name)])
    scored = np.unique(np.linspace(0, rows - 1, min(rows, SCORED)).astype(np.int64))
    alone = feature_scores(store, schema, scored)
    found = []
    for name, (distinct, most) in _codes(store, schema).items():
        values, number = seen[name], schema.features[name] == "float32"
        full = rows - values.empty
        found.append(
            FeatureSummary(
                feature=name,
                kind="number" if number else "list" if values.is_list else "category",
                empty=values.empty / rows,
                values=min(values.distinct.count(), full) if number else distinct,
                buckets=distinct if number else None,
                edges=_edges(schema, name) if number else None,
                scale=scale_words(schema.scales.get(name, ANY_VALUE)) if number else None,
                largest=most / full if full and not values.is_list else None,
                lists_cut=values.lists_cut,
                entries_cut=values.entries_cut,
                auc=alone[name],
            )
        )
    return found


def _edges(schema: EventSchema, name: str) -> Literal["quantile", "log"]:
    return "log" if schema.edges.get(name, ANY_SCALE) == ANY_SCALE else "quantile"


class _Values:
    """What is counted of one feature's own values, before they are encoded."""

    def __init__(self, kind: str, length: int) -> None:
        self.kind, self.length, self.is_list = kind, length, kind.startswith("list")
        self.empty = self.lists_cut = self.entries_cut = 0
        self.distinct = Distinct()

    def add(self, values: pl.Series) -> None:
        if self.is_list:
            over = values.list.drop_nulls().list.len().fill_null(0).to_numpy().astype(np.int64) - self.length
            self.empty += int((over == -self.length).sum())
            self.lists_cut += int((over > 0).sum())
            self.entries_cut += int(over[over > 0].sum())
        elif self.kind == "float32":
            numbers = values.cast(pl.Float32).fill_null(np.nan).to_numpy() + np.float32(0)  # -0 is 0
            finite = np.isfinite(numbers)
            self.empty += int((~finite).sum())
            self.distinct.add(numbers[finite].view(np.uint32))
        else:
            self.empty += values.null_count()


def _codes(store: SampleStore, schema: EventSchema) -> dict[str, tuple[int, int]]:
    """Return per feature (codes that models see but for the one of empty values, rows of the most frequent of them)."""
    _, *scalars = context_fields(schema)
    names = [*scalars, *list_fields(schema)]
    rows, field = np.zeros(store.contexts, np.int64), np.zeros(store.contexts, np.int16)
    for part in _parts(len(store)):
        context, lists = np.asarray(store.context[part]), np.asarray(store.lists[part])
        rows += np.bincount(np.concatenate((context.ravel(), lists.ravel())), minlength=store.contexts)
        for place in range(1, context.shape[1]):
            field[context[:, place]] = place
        for place in range(0, lists.shape[1], schema.list_length):
            field[lists[:, place : place + schema.list_length]] = context.shape[1] + place // schema.list_length
    empty = pl.Series([empty_key(name, schema.features[name]) for name in scalars], dtype=pl.String)
    known = Vocabulary.load(store.folder / "context.parquet").encode(empty, grow=False)
    rows[known] = rows[0] = 0  # 0: no value
    most = np.zeros(len(names) + 1, np.int64)
    np.maximum.at(most, field, rows)
    distinct = np.bincount(field[rows > 0], minlength=len(names) + 1)
    return {name: (int(distinct[place]), int(most[place])) for place, name in enumerate(names, start=1)}
