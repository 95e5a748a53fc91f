"""Domains: the samples of one value of one feature, which a student may be for, while its teacher is for all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from recdistill.data.batch.slicer import Slicer
from recdistill.data.keys import context_key
from recdistill.data.store.sample_store import SampleStore
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["rows_of_domain"]


def rows_of_domain(store: SampleStore, schema: EventSchema, domain: Mapping[str, int | str]) -> Array | None:
    """Return bool [N], which of the store's samples are of a domain, None for one that is no domain at all.

    Raises UserError for a feature that there is not, or whose values are no names (numbers with a fraction, lists), and
    where no sample has the value.
    """
    for name, value in domain.items():
        field, kind = Slicer.of(name, schema, "domain").field, schema.features.get(name)
        if kind not in ("int64", "string"):
            raise UserError(f"domain: '{name}' is of type {kind}; name a feature of whole numbers or text")
        known = Vocabulary.load(store.folder / "context.parquet")
        code = int(known.encode(pl.Series([context_key(name, value)]), grow=False)[0])
        mask = np.asarray(store.context[:, field] == code)
        if not code or not mask.any():
            raise UserError(f"domain: no sample has {name} {value!r}")
        return mask
    return None
