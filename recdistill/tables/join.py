"""A model's recorded logits beside the samples they are about, by sample id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from recdistill.tables.delta.files import Part, read_parts
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array

__all__ = ["join_signals"]

KEPT = 4_000_000  # rows of predictions in memory at most, beside the file being read


def join_signals(
    batches: Iterable[pl.DataFrame], predictions: PredictionLog, model: str, *, version: int | None = None
) -> Iterator[pl.DataFrame]:
    """Yield each batch with `model`'s logits joined by sample_id, in the batch's order, null where it said nothing.

    batches: any columns, `sample_id` and `time` among them. `version` pins the predictions (default: the newest now).
    Where several of the model's versions spoke about a sample, the newest commit counts. A batch reads the files of its
    dates whose range of sample ids meets its own, so memory is O(batch), and samples in the order of the record
    read each file once.
    """
    said = _Said(predictions, model, version)
    for batch in batches:
        yield batch.with_columns(said.about(batch))


class _Said:
    """The logits of one model, file by file; the files last used stay, up to KEPT rows."""

    def __init__(self, predictions: PredictionLog, model: str, version: int | None) -> None:
        self.table: Path = predictions.path
        self.names = [f"logit_{task}" for task in predictions.tasks]
        self.types = {name: predictions.types[name] for name in ("sample_id", *self.names)}
        self.kept: dict[str, tuple[Array, list[Array]]] = {}
        self.parts = [part for part in predictions.parts(version) if part.partition["model"] == model]

    def about(self, batch: pl.DataFrame) -> list[pl.Series]:
        """Return one float32 column per task for the batch's rows."""
        ids = batch["sample_id"].to_numpy()
        order = None if _rising(ids) else np.argsort(ids, kind="stable")
        ids = ids if order is None else ids[order]
        found = [np.full(len(ids), np.nan, np.float32) for _ in self.names]
        for part in self._near(ids, batch["time"]):
            _fill(found, ids, *self._load(part))
        if order is not None:
            found = [_unsorted(values, order) for values in found]
        return [pl.Series(name, values, nan_to_null=True) for name, values in zip(self.names, found, strict=True)]

    def _near(self, ids: Array, time: pl.Series) -> list[Part]:
        """Return the files that may hold one of `ids` (sorted) at one of these times."""
        if not len(ids):
            return []
        first, last = (str(day) for day in _days(time))
        return [
            part for part in self.parts if first <= part.partition["date"] <= last and part.may_hold(ids[0], ids[-1])
        ]

    def _load(self, part: Part) -> tuple[Array, list[Array]]:
        """Return (ids rising, logits per task) of a file."""
        if part.path not in self.kept:
            self.kept[part.path] = _by_id(pl.concat(read_parts(self.table, [part], self.types, None)))
        self.kept[part.path] = self.kept.pop(part.path)  # the last used stands last
        while len(self.kept) > 1 and sum(len(ids) for ids, _ in self.kept.values()) > KEPT:
            del self.kept[next(iter(self.kept))]
        return self.kept[part.path]


def _days(time: pl.Series) -> Array:
    """Return datetime64[D] [2], the first and the last day."""
    ticks = time.to_physical().to_numpy()
    return (np.array([ticks.min(), ticks.max()]) // 86_400_000_000).astype("datetime64[D]")


def _rising(ids: Array) -> bool:
    return bool((ids[1:] > ids[:-1]).all())


def _by_id(rows: pl.DataFrame) -> tuple[Array, list[Array]]:
    """Return the rows in order of id, the last of each id."""
    if not _rising(rows["sample_id"].to_numpy()):
        rows = rows.unique("sample_id", keep="last").sort("sample_id")
    return rows["sample_id"].to_numpy(), [
        column.to_numpy() for column in rows.iter_columns() if column.name != "sample_id"
    ]


def _fill(found: list[Array], wanted: Array, ids: Array, logits: list[Array]) -> None:
    """Set `found` where `wanted` (sorted) stands in `ids` (rising); whole runs at once where both say the same ids."""
    low, high = np.searchsorted(wanted, ids[0]), np.searchsorted(wanted, ids[-1], side="right")
    wanted = wanted[low:high]
    if not len(wanted):
        return
    first = np.searchsorted(ids, wanted[0])
    if np.array_equal(ids[first : first + len(wanted)], wanted):
        for out, values in zip(found, logits, strict=True):
            out[low:high] = values[first : first + len(wanted)]
        return
    at = np.searchsorted(ids, wanted)
    hit = np.flatnonzero(ids[at] == wanted)
    for out, values in zip(found, logits, strict=True):
        out[low + hit] = values[at[hit]]


def _unsorted(values: Array, order: Array) -> Array:
    out = np.empty_like(values)
    out[order] = values
    return out
