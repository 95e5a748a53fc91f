"""Domains: the samples of one value of one feature, which a student may be for, while its teacher is for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.ids import Vocabulary
from recdistill.data.slices import Slicer
from recdistill.data.store import SampleStore
from recdistill.errors import UserError
from recdistill.tables import EventSchema

__all__ = ["check_domain", "rows_of_domain"]

Array = np.ndarray[Any, np.dtype[Any]]


def check_domain(domain: Mapping[str, int | str], schema: EventSchema) -> None:
    """Raise UserError for a feature that there is not, or whose values are no names: numbers with a fraction, lists."""
    for name in domain:
        Slicer.of(name, schema, "domain")
        if schema.features.get(name) not in ("int64", "string"):
            raise UserError(f"domain: '{name}' is of type {schema.features.get(name)}; name a feature of whole numbers or text")


def rows_of_domain(store: SampleStore, schema: EventSchema, domain: Mapping[str, int | str]) -> Array | None:
    """Return bool [N], which of the store's samples are of a domain, None for one that is no domain at all.

    Raises UserError for a feature that cannot be one, and where no sample has the value.
    """
    check_domain(domain, schema)
    for name, value in domain.items():
        known = Vocabulary.load(store.folder / "context.parquet")
        code = int(known.encode(pl.Series([f"{name}={value}"]), grow=False)[0])
        mask = np.asarray(store.context[:, Slicer.of(name, schema).field] == code)
        if not code or not mask.any():
            raise UserError(f"domain: no sample has {name} {value!r}")
        return mask
    return None
