"""The category of each item, from a column of the log, as it was known at a moment: what pre-training predicts besides
the next item (GPSD, 2506.03699).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from recdistill.data.keys import empty_key
from recdistill.data.store.encoder import context_fields, list_fields
from recdistill.data.store.sample_store import SampleStore
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["CategoryColumn"]

CHUNK = 131_072  # rows read at a time


@dataclass(frozen=True)
class CategoryColumn:
    """A column of the log that says the category of a sample's item.

    at: its place among the store's `context` fields, or, of a list, that of the first entry that models see among
    `lists`; missing: the code of a row without a value.
    """

    at: int
    in_lists: bool
    missing: int

    @classmethod
    def of(cls, name: str, schema: EventSchema, store: SampleStore, key: str) -> CategoryColumn:
        """Return the column of that name; UserError, about `key`, for one that the log does not have or that counts or
        measures something.
        """
        lists = list_fields(schema)
        if name not in schema.features:
            raise UserError(f"{key}: no feature '{name}'{did_you_mean(name, schema.features)}")
        if schema.features[name] == "float32":
            raise UserError(f"{key}: '{name}' is a number; a category is a column of data.columns.categorical or lists")
        if name in lists:
            return cls(schema.list_length * lists.index(name), True, 0)
        ids = Vocabulary.load(store.folder / "context.parquet")
        missing = int(ids.encode(pl.Series([empty_key(name, schema.features[name])]), grow=False)[0])
        return cls(context_fields(schema).index(name), False, missing)

    def of_items(self, store: SampleStore, time: int) -> Array:
        """Return int64 [items], each item's category by the newest sample before `time` us that has one, numbered from
        1 without gaps; 0 for an item without. Memory O(items).
        """
        found = np.zeros(store.items, np.int64)
        stop = int(np.searchsorted(store.time, time))
        for low in range(0, stop, CHUNK):
            part = slice(low, min(low + CHUNK, stop))
            values = np.asarray((store.lists if self.in_lists else store.context)[part, self.at])
            known = values != self.missing
            found[store.item[part][known]] = values[known]
        found[0] = 0
        return np.asarray(np.unique(found, return_inverse=True)[1], np.int64)
