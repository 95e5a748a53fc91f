"""Sampled negatives for a log of positives: items that others chose before, strictly from the past.

For a positive (user u, item i, time t) each negative is an item drawn from what was chosen strictly before t
(`data.negatives.draw`, see `draw_pools`), and drawn again while it is i or one of the positive's other negatives, or,
on request, what u chose at or before t. After TRIES draws a place stays empty.

What is left out must not give the label away. A positive that nobody else chose where negatives are drawn from could
never have been drawn, so "new" would mean positive; without what u chose before, "seen" would. Hence the defaults: both
come from one pool, lists are full, and the positive stands anywhere in its list.

`log_q` is the logarithm of the probability that one draw, as of t, gives a row's item, before anything is drawn again:
so a pair of user and item is kept as a negative of t at the rate per_positive * exp(log_q).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from recdistill.config.data import NegativesConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.draw_pools import pool_of
from recdistill.data.readers.shortage import Shortage
from recdistill.data.sampling import paired, uniform
from recdistill.data.store.id_set import IdSet
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import EventSchema, feature_column, vector_column
from recdistill.typing import Array

__all__ = ["with_negatives"]

TRIES = 20
BLOCK = 65_536  # rows; the draw by weights depends on it, see `draw_catalogue`
ORDER_SEED = 2**32  # added to the seed: the order of a list must not depend on the draws


def with_negatives(log: Log, config: NegativesConfig) -> Log:
    """Return the log with negatives around each positive in random order, one request id for them all.

    Their sample ids count down from -1; what does not describe the item they share with their positive. Histories come
    from the behaviors, or from the positives where there are none, those left out too. Memory: what is drawn from, and
    with `exclude: chosen` 8 bytes per positive. Raises UserError for a row that is no positive, a negative id, an item
    feature that is none, and when no positive remains or negatives are fewer than positives.
    """
    for name in config.item_features:
        if name not in log.schema.features:
            raise UserError(
                f"data.negatives.item_features: no feature '{name}'{did_you_mean(name, log.schema.features)}"
            )
    schema = replace(log.schema, has_request=True, negatives=config.per_positive, corrected=config.correct)
    of_item = sorted(map(feature_column, {*log.item_features, *config.item_features}))
    of_item += [vector_column(name) for name, (of, _, _) in schema.row_vectors.items() if of == "item"]
    shortage = Shortage()

    def batches() -> Iterator[pl.DataFrame]:
        drawn = _Draws(config, schema, of_item)
        for block in _blocks(log.batches()):
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


def _blocks(chunks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the same rows in blocks of BLOCK rows and those that share the last one's instant: what a user chooses at
    one time is known at once. Where a block ends depends on the rows up to there alone.
    """
    held: list[pl.DataFrame] = []
    for chunk in chunks:
        held.append(chunk)
        while sum(map(len, held)) > BLOCK:
            rows = pl.concat(held)
            time = rows["time"].to_physical().to_numpy()
            later = np.flatnonzero(time[BLOCK:] != time[BLOCK - 1 : -1])
            held = [rows]
            if not len(later):
                break
            yield rows.head(BLOCK + int(later[0]))
            held = [rows.slice(BLOCK + int(later[0]))]
    if sum(map(len, held)):
        yield pl.concat(held)


class _Draws:
    """What negatives are drawn from, whom each user chose so far, and what was left out."""

    def __init__(self, config: NegativesConfig, schema: EventSchema, of_item: list[str]) -> None:
        self.config, self.schema, self.of_item = config, schema, of_item
        self.pool = pool_of(config)
        self.chosen = IdSet()
        self.shortage = Shortage()

    def with_negatives(self, block: pl.DataFrame) -> pl.DataFrame:
        """Return the positives of whole instants, later than all before, each among its negatives."""
        described = block.select(
            "time", "item_id", *self.of_item, item=pl.col("item_id").hash(), user=pl.col("user_id").hash()
        )
        user, item = described["user"].to_numpy(), described["item"].to_numpy()
        time = described["time"].to_physical().to_numpy()
        self.pool.open(described)
        kept = self.pool.others if self.config.positives == "pool" else np.ones(len(block), bool)
        if self.config.exclude == "chosen":
            self._remember(user, item, time)
        picked = self._pick(user, item, time, kept & self.pool.any_at)
        full = self._full(kept, picked)
        out = self._rows(block, picked, full)
        self.pool.close()
        if self.config.exclude == "chosen":
            self.chosen.add(self._own)
        self.shortage.count(time, kept, full, picked)
        return out

    def _full(self, kept: Array, picked: Array) -> Array:
        """Return bool [n]: which positives stay; those of one pool also need a full list, for a short one has a base
        rate of its own.
        """
        return kept if self.config.positives == "all" else np.asarray(kept & (picked >= 0).all(1))

    def _pick(self, user: Array, own: Array, time: Array, asked: Array) -> Array:
        """Return int64 [n, per_positive]: the draw of each negative of those `asked` for, -1 where a place stays
        empty.
        """
        picked = np.full((len(own), self.config.per_positive), -1)
        for place in range(self.config.per_positive):
            left = np.flatnonzero(asked)
            for attempt in range(TRIES):
                if not len(left):
                    break
                key = ((self.shortage.positives + left) * self.config.per_positive + place) * TRIES + attempt
                at = self.pool.draw(left, uniform(key, self.config.seed))
                item, before = self.pool.item(at), picked[left, :place]
                twice = ((self.pool.item(before) == item[:, None]) & (before >= 0)).any(1)
                good = ~twice & (item != own[left])
                if self.config.exclude == "chosen":
                    good &= ~self._chose(user[left], item, time[left])
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

    def _rows(self, block: pl.DataFrame, picked: Array, kept: Array) -> pl.DataFrame:
        """Return the `kept` rows of the block with their negatives, each list in an order of its own."""
        positive, place = np.nonzero((picked >= 0) & kept[:, None])
        number, per = self.shortage.positives + np.arange(len(block)), self.config.per_positive
        ids = -1 - (number[positive] * per + place)
        draws = picked[positive, place]
        labels = {f"label_{task}": pl.lit(0.0, pl.Float32) for task in self.schema.tasks}
        labels |= {"sample_key": pl.lit(None, pl.String)} if self.schema.sample_key else {}
        drawn = self.pool.features(positive, draws)
        negatives = block[positive].with_columns(drawn).with_columns(**labels, sample_id=pl.Series(ids, dtype=pl.Int64))
        request = np.concatenate((number[kept], number[positive]))
        both = pl.concat([block.filter(pl.Series(kept)), negatives], how="diagonal")
        alone = np.flatnonzero(kept)
        log_q = self.pool.log_q(np.concatenate((alone, positive)), np.concatenate((self.pool.own(alone), draws)))
        self.shortage.rate(log_q[kept.sum() :], per)
        both = both.with_columns(request_id=pl.Series(request), log_q=_known(log_q))
        key = request * (per + 1) + np.concatenate((np.zeros(kept.sum(), np.int64), 1 + place))
        order = np.lexsort((uniform(key, self.config.seed + ORDER_SEED), request))
        return both.select(list(self.schema.columns()))[order]


def _known(log_q: Array) -> pl.Series:
    """Return float32 [n], null for what cannot be drawn."""
    return pl.Series(log_q, dtype=pl.Float32).replace(-np.inf, None)
