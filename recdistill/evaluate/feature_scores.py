"""What each feature tells of a label by itself: a feature that is the label under another name tells all of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recdistill.data.sampling import mixed, paired
from recdistill.data.store.encoder import context_fields, list_fields
from recdistill.data.store.sample_store import SampleStore
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["auc_alone", "feature_scores", "halves"]

SURE = 10  # rows of a class without which a score means nothing


def auc_alone(code: Array, label: Array) -> float | None:
    """Return the AUC of scoring each row by the rate of the rows with its code in the other half, one row of the base
    rate added; None with fewer than SURE rows of a class.

    code: int64 [n] from 0; label: float64 [n] of 0 and 1. The halves are drawn, and only rows of one half are compared,
    so a feature that tells nothing scores 0.5. O(n + codes log codes): rows of one code, half and label are equal.
    """
    total = label.sum()
    if min(total, len(code) - total) < SURE:
        return None
    base, codes = total / len(code), int(code.max()) + 1
    half = halves(len(code))
    rows = [np.bincount(code[half == h], minlength=codes) for h in (0, 1)]
    positives = [np.bincount(code[half == h], label[half == h], codes) for h in (0, 1)]
    right = pairs = 0.0
    for own, other in ((0, 1), (1, 0)):
        rate = (positives[other] + base) / (rows[other] + 1)
        place = np.unique(rate, return_inverse=True)[1]
        up, down = np.bincount(place, positives[own]), np.bincount(place, rows[own] - positives[own])
        right += float((up * (np.cumsum(down) - down / 2)).sum())
        pairs += float(up.sum() * down.sum())
    return right / pairs if pairs else None


def halves(rows: int) -> Array:
    """Return int64 [rows] of 0 and 1: the half of each row, drawn by its place."""
    return np.asarray(mixed(np.arange(rows) + 1) & np.uint64(1), np.int64)


def feature_scores(store: SampleStore, schema: EventSchema, rows: Array) -> dict[str, dict[str, float | None]]:
    """Return feature -> task -> `auc_alone` of the samples at `rows`, int64 [n], whose label is known; of no
    regression.
    """
    labels = {
        task: np.asarray(store.labels[rows, k], np.float64)
        for k, task in enumerate(store.tasks)
        if task not in schema.regression
    }
    known = {task: ~np.isnan(label) for task, label in labels.items()}
    return {
        name: {task: auc_alone(code[known[task]], label[known[task]]) for task, label in labels.items()}
        for name, code in _codes(store, schema, rows)
    }


def _codes(store: SampleStore, schema: EventSchema, rows: Array) -> Iterator[tuple[str, Array]]:
    """Yield (feature, int64 [n] codes): equal for rows that a model cannot tell apart by it."""
    _, *scalars = context_fields(schema)
    for place, name in enumerate(scalars, start=1):
        yield name, np.asarray(store.context[rows, place], np.int64)
    for place, name in enumerate(list_fields(schema)):
        slots = store.lists[rows, place * schema.list_length : (place + 1) * schema.list_length].astype(np.uint64)
        one = np.zeros(len(rows), np.uint64)
        for k in range(slots.shape[1]):
            one = paired(one, slots[:, k])
        yield name, np.asarray(np.unique(one, return_inverse=True)[1], np.int64)
