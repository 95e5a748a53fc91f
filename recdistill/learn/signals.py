"""A teacher's record joined to the store: one float32 column per task in the store's order, NaN where nothing was said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.data import SampleStore
from recdistill.data.columns import create_column, open_column, read_json, write_json
from recdistill.tables import PredictionLog

__all__ = ["join_column"]

Array = np.ndarray[Any, np.dtype[Any]]


def join_column(folder: Path, store: SampleStore, predictions: PredictionLog, model: str, first: tuple[str, int] | None = None) -> Array:
    """Return the read-only column [N, K] of all that `model` said so far, joined by sample id.

    first: another model, and how many of the store's first rows are to hear it in place of `model`.
    Memory O(batch): predictions stream by and each lands at its sample's position. The column is kept in `folder` and
    joined again only when they have said more; what others say meanwhile leaves it alone, so that students may read
    it side by side while they write to the same table.
    """
    early, rows = first or ("", 0)
    sources = [(model, rows, len(store)), *([(early, 0, rows)] if rows else [])]
    pinned = {"sources": [[name, low, high, len(predictions.lineage(name))] for name, low, high in sources]}
    if (folder / "signals.json").exists() and read_json(folder / "signals.json") == pinned:
        return open_column(folder, "logits")
    shutil.rmtree(folder, ignore_errors=True)
    column = create_column(folder, "logits", (len(store), len(store.tasks)), "float32")
    column[:] = np.nan
    names = [f"logit_{task}" for task in store.tasks]
    for name, low, high in sources:
        for said in predictions.of(name, columns=["sample_id", *names]):
            at = store.positions(said["sample_id"].to_numpy())
            mine = (at >= low) & (at < high)
            column[at[mine]] = said.select(names).to_numpy()[mine]
    write_json(folder / "signals.json", pinned)
    return open_column(folder, "logits")
