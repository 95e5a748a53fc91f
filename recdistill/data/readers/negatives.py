"""Sampled negatives for a log of positives: items that others chose just before, strictly from the past.

For a positive (user u, item i, time t) each negative is the item of an event drawn evenly from [t - window, t), so in
proportion to how often it was chosen there, and drawn again while u chose that item at or before t or it is one of the
positive's other negatives. After TRIES draws a place stays empty: users who have seen all, and the first rows of a log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from recdistill.config.data import NegativesConfig
from recdistill.data.readers.base import Log
from recdistill.data.sampling import mixed, uniform
from recdistill.data.store.id_set import IdSet
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["with_negatives"]

TRIES = 20


def with_negatives(log: Log, config: NegativesConfig) -> Log:
    """Return the log with negatives after each positive, one request id for both.

    Their sample ids count down from -1; what does not describe the item they share with their positive. Histories come
    from the behaviors, or from the positives where there are none. Memory: the window, and 8 bytes per positive.
    Raises UserError for a row that is no positive, a negative id, or an item feature that is none.
    """
    for name in config.item_features:
        if name not in log.schema.features:
            raise UserError(
                f"data.negatives.item_features: no feature '{name}'{did_you_mean(name, log.schema.features)}"
            )
    schema = replace(log.schema, has_request=True)
    of_item = sorted({*log.item_features, *config.item_features})

    def batches() -> Iterator[pl.DataFrame]:
        drawn = _Draws(config, schema, of_item)
        for block in _whole_instants(log.batches()):
            _check(block, log)
            yield drawn.with_negatives(block)

    return replace(log, schema=schema, batches=batches, behaviors=log.behaviors or (lambda: _actions(log)))


def _actions(log: Log) -> Iterator[pl.DataFrame]:
    for chunk in log.batches():
        yield chunk.select("user_id", "item_id", "time", action=pl.lit("event"))


def _check(rows: pl.DataFrame, log: Log) -> None:
    task = log.schema.tasks[0]
    wrong = rows.filter(pl.col(f"label_{task}").ne_missing(1.0) | (pl.col("sample_id") < 0))
    if len(wrong):
        label, sample = wrong[f"label_{task}"][0], wrong["sample_id"][0]
        raise UserError(
            f"{log.source}: data.negatives needs a log of positives with ids from 0; sample {sample} has label {label}"
        )


def _whole_instants(chunks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the same rows, no two blocks sharing an instant: what a user chooses at one time is known at once."""
    held: pl.DataFrame | None = None
    for chunk in chunks:
        rows = chunk if held is None else pl.concat([held, chunk])
        last = rows["time"].search_sorted(rows["time"][-1], side="left")
        if last:
            yield rows.head(last)
        held = rows.slice(last)
    if held is not None:
        yield held


def _pair(user: Array, item: Array) -> Array:
    return mixed(user * np.uint64(0x9E3779B97F4A7C15) + item)


class _Draws:
    """The window's events, whom each user chose so far, and how many positives there were."""

    def __init__(self, config: NegativesConfig, schema: EventSchema, of_item: list[str]) -> None:
        self.config, self.schema, self.of_item = config, schema, of_item
        self.window = int(config.window_hours * 3_600e6)
        self.chosen = IdSet()
        self.done = 0
        self.pool: pl.DataFrame | None = None

    def with_negatives(self, block: pl.DataFrame) -> pl.DataFrame:
        """Return the positives of whole instants, later than all before, each followed by its negatives."""
        recent = block.select("time", "item_id", *self.of_item, hash=pl.col("item_id").hash())
        pool = recent if self.pool is None else pl.concat([self.pool, recent])
        picked = self._pick(block, pool)
        out = self._rows(block, pool, picked)
        self.pool = pool.filter(pl.col("time") >= block["time"][-1] - pl.duration(microseconds=self.window))
        self.chosen.add(self._own)
        self.done += len(block)
        return out

    def _pick(self, block: pl.DataFrame, pool: pl.DataFrame) -> Array:
        """Return int64 [n, per_positive]: the pool's row of each negative, -1 where a place stays empty."""
        time, events = block["time"].dt.epoch("us").to_numpy(), pool["time"].dt.epoch("us").to_numpy()
        user, items = block["user_id"].hash().to_numpy(), pool["hash"].to_numpy()
        low, high = np.searchsorted(events, time - self.window), np.searchsorted(events, time)
        self._remember(user, items[len(pool) - len(block) :], time)
        picked = np.full((len(block), self.config.per_positive), -1)
        for place in range(self.config.per_positive):
            left = np.flatnonzero(high > low)
            for attempt in range(TRIES):
                key = ((self.done + left) * self.config.per_positive + place) * TRIES + attempt
                at = low[left] + (uniform(key, self.config.seed) * (high[left] - low[left])).astype(np.int64)
                before = picked[left, :place]
                twice = ((items[before] == items[at][:, None]) & (before >= 0)).any(1)
                good = ~twice & ~self._chose(user[left], items[at], time[left])
                picked[left[good], place] = at[good]
                left = left[~good]
        return picked

    def _remember(self, user: Array, item: Array, time: Array) -> None:
        """Keep the pairs (user, item) of the block, each with the time it first stands there."""
        self._own, first = np.unique(_pair(user, item), return_index=True)
        self._since = time[first]

    def _chose(self, user: Array, item: Array, time: Array) -> Array:
        """Return bool [n]: whether `user` chose `item` at or before `time`."""
        pair = _pair(user, item)
        at = np.searchsorted(self._own, pair).clip(max=len(self._own) - 1)
        return np.asarray(self.chosen.holds(pair) | ((self._own[at] == pair) & (self._since[at] <= time)))

    def _rows(self, block: pl.DataFrame, pool: pl.DataFrame, picked: Array) -> pl.DataFrame:
        """Return the block with the picked rows of the pool, in order of positive and place."""
        positive, place = np.nonzero(picked >= 0)
        number = self.done + np.arange(len(block))
        ids = -1 - (number[positive] * self.config.per_positive + place)
        drawn = pool.select("item_id", *self.of_item)[picked[positive, place]]
        labels = {f"label_{task}": pl.lit(0.0, pl.Float32) for task in self.schema.tasks}
        negatives = block[positive].with_columns(drawn).with_columns(**labels, sample_id=pl.Series(ids, dtype=pl.Int64))
        both = pl.concat(
            [
                block.with_columns(request_id=pl.Series(number)),
                negatives.with_columns(request_id=pl.Series(number[positive])),
            ],
            how="diagonal",
        )
        order = np.lexsort((np.concatenate((np.zeros(len(block)), 1 + place)), both["request_id"].to_numpy()))
        return both.select(list(self.schema.columns()))[order]
