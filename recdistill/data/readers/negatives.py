"""Sampled negatives for a log of positives: items that others chose just before, strictly from the past.

For a positive (user u, item i, time t) each negative is the item of an event drawn evenly from [t - window, t), so in
proportion to how often it was chosen there, and drawn again while it is i or one of the positive's other negatives, or,
on request, what u chose at or before t. After TRIES draws a place stays empty.

What is left out must not give the label away. A positive that nobody else chose in the window could never have been
drawn, so "new" would mean positive; without what u chose before, "seen" would. Hence the defaults: both come from one
pool, lists are full, and the positive stands anywhere in its list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from recdistill.config.data import NegativesConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.shortage import Shortage
from recdistill.data.sampling import paired, uniform
from recdistill.data.store.id_set import IdSet
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import EventSchema, feature_column, vector_column
from recdistill.typing import Array

__all__ = ["with_negatives"]

TRIES = 20
ORDER_SEED = 2**32  # added to the seed: the order of a list must not depend on the draws


def with_negatives(log: Log, config: NegativesConfig) -> Log:
    """Return the log with negatives around each positive in random order, one request id for them all.

    Their sample ids count down from -1; what does not describe the item they share with their positive. Histories come
    from the behaviors, or from the positives where there are none, those left out too. Memory: the window, and with
    `exclude: chosen` 8 bytes per positive. Raises UserError for a row that is no positive, a negative id, an item
    feature that is none, and when no positive remains or negatives are fewer than positives.
    """
    for name in config.item_features:
        if name not in log.schema.features:
            raise UserError(
                f"data.negatives.item_features: no feature '{name}'{did_you_mean(name, log.schema.features)}"
            )
    schema = replace(log.schema, has_request=True)
    of_item = sorted(map(feature_column, {*log.item_features, *config.item_features}))
    of_item += [vector_column(name) for name, (of, _, _) in schema.row_vectors.items() if of == "item"]
    shortage = Shortage()

    def batches() -> Iterator[pl.DataFrame]:
        drawn = _Draws(config, schema, of_item)
        for block in _whole_instants(log.batches()):
            _check(block, log)
            rows = drawn.with_negatives(block)
            vars(shortage).update(vars(drawn.shortage))
            if len(rows):
                yield rows
        drawn.shortage.check(config, log.source)

    behaviors = log.behaviors or (lambda: _actions(log))
    return replace(
        log, schema=schema, batches=batches, behaviors=behaviors, notes=lambda: [*log.notes(), *shortage.lines(config)]
    )


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


def _chosen_by_others(user: Array, item: Array, low: Array, high: Array) -> Array:
    """Return bool [n]: for the last n of the events (user, item), in order of time, whether another user chose the item
    at one of the places [low, high).
    """

    def chosen(codes: Array) -> Array:
        codes, size = np.unique(codes, return_inverse=True)[1], len(codes)
        keys, own = np.sort(codes * size + np.arange(size)), codes[size - len(low) :] * size
        return np.asarray(np.searchsorted(keys, own + high) - np.searchsorted(keys, own + low))

    return np.asarray(chosen(item) > chosen(paired(user, item)))


class _Draws:
    """The window's events, whom each user chose so far, and what was left out."""

    def __init__(self, config: NegativesConfig, schema: EventSchema, of_item: list[str]) -> None:
        self.config, self.schema, self.of_item = config, schema, of_item
        self.window = int(config.window_hours * 3_600e6)
        self.chosen = IdSet()
        self.shortage = Shortage()
        self.pool: pl.DataFrame | None = None

    def with_negatives(self, block: pl.DataFrame) -> pl.DataFrame:
        """Return the positives of whole instants, later than all before, each among its negatives."""
        recent = block.select(
            "time", "item_id", *self.of_item, item=pl.col("item_id").hash(), user=pl.col("user_id").hash()
        )
        pool = recent if self.pool is None else pl.concat([self.pool, recent])
        time, events = block["time"].dt.epoch("us").to_numpy(), pool["time"].dt.epoch("us").to_numpy()
        low, high = np.searchsorted(events, time - self.window), np.searchsorted(events, time)
        user, item = pool["user"].to_numpy(), pool["item"].to_numpy()
        kept = np.ones(len(block), bool)
        if self.config.positives == "pool":
            kept = _chosen_by_others(user, item, low, high)
        if self.config.exclude == "chosen":
            self._remember(user[-len(block) :], item[-len(block) :], time)
        picked = self._pick(time, pool, low, np.where(kept, high, low))
        full = self._full(kept, picked)
        out = self._rows(block, pool, picked, full)
        self.pool = pool.filter(pl.col("time") >= block["time"][-1] - pl.duration(microseconds=self.window))
        if self.config.exclude == "chosen":
            self.chosen.add(self._own)
        self.shortage.count(time, kept, full, picked)
        return out

    def _full(self, kept: Array, picked: Array) -> Array:
        """Return bool [n]: which positives stay; those of one pool also need a full list, for a short one has a base
        rate of its own.
        """
        return kept if self.config.positives == "all" else np.asarray(kept & (picked >= 0).all(1))

    def _pick(self, time: Array, pool: pl.DataFrame, low: Array, high: Array) -> Array:
        """Return int64 [n, per_positive]: the pool's row of each negative, -1 where a place stays empty."""
        n, per, items = len(time), self.config.per_positive, pool["item"].to_numpy()
        user, own = pool["user"].to_numpy()[-n:], items[-n:]
        picked = np.full((n, per), -1)
        for place in range(per):
            left = np.flatnonzero(high > low)
            for attempt in range(TRIES):
                key = ((self.shortage.positives + left) * per + place) * TRIES + attempt
                at = low[left] + (uniform(key, self.config.seed) * (high[left] - low[left])).astype(np.int64)
                before = picked[left, :place]
                twice = ((items[before] == items[at][:, None]) & (before >= 0)).any(1)
                good = ~twice & (items[at] != own[left])
                if self.config.exclude == "chosen":
                    good &= ~self._chose(user[left], items[at], time[left])
                picked[left[good], place] = at[good]
                left = left[~good]
        return picked

    def _remember(self, user: Array, item: Array, time: Array) -> None:
        """Keep the pairs (user, item) of the block, each with the time it first stands there."""
        self._own, first = np.unique(paired(user, item), return_index=True)
        self._since = time[first]

    def _chose(self, user: Array, item: Array, time: Array) -> Array:
        """Return bool [n]: whether `user` chose `item` at or before `time`."""
        pair = paired(user, item)
        at = np.searchsorted(self._own, pair).clip(max=len(self._own) - 1)
        return np.asarray(self.chosen.holds(pair) | ((self._own[at] == pair) & (self._since[at] <= time)))

    def _rows(self, block: pl.DataFrame, pool: pl.DataFrame, picked: Array, kept: Array) -> pl.DataFrame:
        """Return the `kept` rows of the block with the picked rows of the pool, each list in an order of its own."""
        positive, place = np.nonzero((picked >= 0) & kept[:, None])
        number, per = self.shortage.positives + np.arange(len(block)), self.config.per_positive
        ids = -1 - (number[positive] * per + place)
        drawn = pool.select("item_id", *self.of_item)[picked[positive, place]]
        labels = {f"label_{task}": pl.lit(0.0, pl.Float32) for task in self.schema.tasks}
        labels |= {"sample_key": pl.lit(None, pl.String)} if self.schema.sample_key else {}
        negatives = block[positive].with_columns(drawn).with_columns(**labels, sample_id=pl.Series(ids, dtype=pl.Int64))
        request = np.concatenate((number[kept], number[positive]))
        both = pl.concat([block.filter(pl.Series(kept)), negatives], how="diagonal")
        both = both.with_columns(request_id=pl.Series(request))
        key = request * (per + 1) + np.concatenate((np.zeros(kept.sum(), np.int64), 1 + place))
        order = np.lexsort((uniform(key, self.config.seed + ORDER_SEED), request))
        return both.select(list(self.schema.columns()))[order]
