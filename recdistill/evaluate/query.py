"""The scored window as a query over the two tables: labels and ids from events, logits from predictions, by sample id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recdistill.errors import RecdistillError, UserError
from recdistill.evaluate.transfer import Samples
from recdistill.tables import EventLog, PredictionLog

__all__ = ["Frame", "load_window", "logits_of"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Frame:
    """The window's rows in log order with what slices need: id, time, user, item, label and group of each."""

    rows: pl.DataFrame
    samples: Samples
    share: float
    total: int

    @property
    def ids(self) -> Array:
        """Return int64 [N], the sample ids."""
        return self.rows["sample_id"].to_numpy()


def _codes(values: pl.Series) -> Array:
    return np.asarray(
        values.cast(pl.String).cast(pl.Categorical).to_physical().rank("dense").cast(pl.Int64).to_numpy() - 1
    )


def _groups(rows: pl.DataFrame, user: Array) -> Array:
    """Return int64 codes of each row's group: its user or, where `request_id` is a column, its request.

    A request id stands for one list of one user, so two users with the same id are two groups; a row without an id was
    in no list and is a group of its own.
    """
    if "request_id" not in rows.columns:
        return user
    alone = pl.concat_str(pl.lit("row "), pl.col("row"))
    request = _codes(rows.select(pl.coalesce(pl.col("request_id").cast(pl.String), alone)).to_series())
    return np.asarray(np.unique(user * (request.max() + 1) + request, return_inverse=True)[1])


def load_window(events: EventLog, version: int, task: str, start: float, group: str) -> Frame:
    """Return the rows after the first `start` share of the log whose label of `task` is known.

    Also notes whether user and item were met before the window, and how many rows the user had before each row.
    Raises UserError when no row of the window has a label.
    """
    columns = ["sample_id", "time", "user_id", "item_id", f"label_{task}"]
    columns += ["request_id"] if events.schema.has_request and group == "request" else []
    rows = pl.concat(list(events.batches(version=version, columns=columns)))
    cut = int(len(rows) * start)
    marked = rows.with_row_index("row").with_columns(
        seen=pl.int_range(pl.len()).over("user_id"),
        new_user=pl.col("row").min().over("user_id") >= cut,
        new_item=pl.col("row").min().over("item_id") >= cut,
    ).slice(cut)  # fmt: skip
    known = marked.filter(pl.col(f"label_{task}").is_not_null()).rename({f"label_{task}": "label"})
    if not len(known):
        raise UserError(f"{events.path}: no row after the first {start:.0%} has a label of '{task}'; lower evaluate.start")
    user = _codes(known["user_id"])
    return Frame(known, Samples(known["label"].to_numpy().astype(np.float64), user, _groups(known, user)), start, len(rows))


def logits_of(predictions: PredictionLog, version: int, model: str, task: str, ids: Array, shift: float) -> Array:
    """Return float32 [N], the recorded logits of `model` for `ids` with the sampling's `shift` taken out.

    Raises RecdistillError when the model said nothing about some of them.
    """
    order = np.argsort(ids, kind="stable")
    ordered, out = ids[order], np.full(len(ids), np.nan, np.float32)
    for rows in predictions.of(model, version, ["sample_id", f"logit_{task}"]):
        sample = rows["sample_id"].to_numpy()
        at = np.searchsorted(ordered, sample).clip(0, len(ids) - 1)
        hit = ordered[at] == sample
        out[order[at[hit]]] = rows[f"logit_{task}"].to_numpy()[hit] - np.float32(shift)
    missing = int(np.isnan(out).sum())
    if missing:
        raise RecdistillError(
            f"{model}: {missing:,} of {len(ids):,} scored samples have no prediction; train it to the end first"
        )
    return out
