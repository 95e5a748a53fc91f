"""What sampled negatives are drawn from: the events just before, by hours or by number, or every item so far.

All of it happened strictly before the row that it is drawn for. See `draw_catalogue` for the items so far.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl

from recdistill.config.data import NegativesConfig
from recdistill.data.readers.draw_catalogue import Catalogue
from recdistill.data.sampling import paired
from recdistill.typing import Array

__all__ = ["CataloguePool", "EventPool", "Pool", "pool_of"]


class Pool(Protocol):
    """What the rows of a block draw from. A draw is a number of the pool's own; `others` is bool [n], whether another
    user chose a row's item there, `any_at` whether there is anything.
    """

    others: Array
    any_at: Array

    def open(self, block: pl.DataFrame) -> None:
        """Take the next rows, of whole instants: time, item_id, the item's features, and hashes `item` and `user`."""

    def draw(self, rows: Array, uniform: Array) -> Array:
        """Return int64 [m]: for each of `rows` [m] of the block a draw, by numbers [m] in [0, 1)."""

    def item(self, draws: Array) -> Array:
        """Return uint64, of the shape of `draws`: the items' hashes."""

    def features(self, rows: Array, draws: Array) -> pl.DataFrame:
        """Return item_id and the features of each draw [m], as they were last known before its row."""

    def own(self, rows: Array) -> Array:
        """Return int64 [m]: the draws that would give the block's `rows` their own items."""

    def log_q(self, rows: Array, draws: Array) -> Array:
        """Return float64 [m]: the logarithm of the probability that a draw for `rows` gives these items; -inf where it
        cannot.
        """

    def close(self) -> None:
        """Take the block into what later blocks draw from."""


class _Occurrences:
    """Where each of n values stands, so that those of a value before any place are counted in O(log n).

    code: int64 [n], a number for each value, by which it is asked for.
    """

    def __init__(self, values: Array) -> None:
        self.code = np.unique(values, return_inverse=True)[1]
        self.size = len(values) + 1
        self.keys = np.sort(self.code * self.size + np.arange(len(values)))

    def count(self, code: Array, low: Array, high: Array) -> Array:
        """Return int64 [m]: how often each value stands at the places [low, high)."""
        at = code * self.size
        return np.asarray(np.searchsorted(self.keys, at + high) - np.searchsorted(self.keys, at + low))


class EventPool:
    """The events of the last hours, or the last `rows` events. Memory: those.

    Of the hours, an item's probability is its share of the events there. Of a number of events it is its share of all
    events so far: which of them stand so near is chance, and the item's share there but an estimate.
    """

    def __init__(self, config: NegativesConfig) -> None:
        self.window = int(config.window_hours * 3_600e6) if config.draw == "window" else None
        self.count = config.rows
        self.so_far = None if self.window is not None else Catalogue(1.0)
        self.pool: pl.DataFrame | None = None

    def open(self, block: pl.DataFrame) -> None:
        """See `Pool`."""
        self.pool = block if self.pool is None else pl.concat([self.pool, block])
        time, events = (rows["time"].to_physical().to_numpy() for rows in (block, self.pool))
        self.high = np.searchsorted(events, time)
        before = np.searchsorted(events, time - self.window) if self.window is not None else self.high - self.count
        self.low = np.maximum(before, 0)
        self.hashes, users = self.pool["item"].to_numpy(), self.pool["user"].to_numpy()
        self.first = len(self.pool) - len(block)
        self.chosen, pairs = _Occurrences(self.hashes), _Occurrences(paired(users, self.hashes))
        by_all, by_user = (one.count(one.code[self.first :], self.low, self.high) for one in (self.chosen, pairs))
        self.others = by_all > by_user
        self.any_at = self.high > self.low
        if self.so_far is not None:
            self.so_far.open(self.hashes[self.first :], time)

    def draw(self, rows: Array, uniform: Array) -> Array:
        """See `Pool`."""
        return np.asarray(self.low[rows] + (uniform * (self.high[rows] - self.low[rows])).astype(np.int64))

    def item(self, draws: Array) -> Array:
        """See `Pool`."""
        return np.asarray(self.hashes[draws])

    def features(self, rows: Array, draws: Array) -> pl.DataFrame:
        """See `Pool`."""
        return self._frame().drop("time", "item", "user")[draws]

    def own(self, rows: Array) -> Array:
        """See `Pool`."""
        return np.asarray(self.first + rows)

    def log_q(self, rows: Array, draws: Array) -> Array:
        """See `Pool`."""
        if self.so_far is not None:
            return self.so_far.log_q(rows, self.so_far.codes(self.hashes[draws]))
        low, high = self.low[rows], self.high[rows]
        with np.errstate(divide="ignore"):
            return np.log(self.chosen.count(self.chosen.code[draws], low, high) / np.maximum(high - low, 1))

    def close(self) -> None:
        """See `Pool`."""
        pool = self._frame()
        if self.window is None:
            self.pool = pool.tail(self.count)
        else:
            self.pool = pool.filter(pl.col("time") >= pool["time"][-1] - pl.duration(microseconds=self.window))
        if self.so_far is not None:
            self.so_far.close()

    def _frame(self) -> pl.DataFrame:
        return pl.DataFrame() if self.pool is None else self.pool


class CataloguePool:
    """Every item so far, evenly or by how often it was chosen; its features are those of its last row before.

    Memory per distinct item: about 80 bytes, and the features of up to two rows.
    """

    def __init__(self, config: NegativesConfig) -> None:
        self.catalogue = Catalogue(config.power if config.draw == "popularity" else 0.0)
        self.first_user, self.place = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self.first, self.second = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.pool: pl.DataFrame | None = None

    def open(self, block: pl.DataFrame) -> None:
        """See `Pool`."""
        item, user, time = block["item"].to_numpy(), block["user"].to_numpy(), block["time"].to_physical().to_numpy()
        new = self.catalogue.open(item, time)
        self.first_user, self.first = np.r_[self.first_user, user[new]], np.r_[self.first, time[new]]
        self.second = np.r_[self.second, np.full(len(new), np.iinfo(np.int64).max)]
        self.place = np.r_[self.place, np.full(len(new), -1)]
        code = self.catalogue.code
        first = user == self.first_user[code]
        np.minimum.at(self.second, code[~first], time[~first])
        self.others = np.where(first, self.second[code], self.first[code]) < time
        self.any_at = self.catalogue.total > 0
        self.start = 0 if self.pool is None else len(self.pool)
        rows = block.drop("time", "item", "user")
        self.pool = rows if self.pool is None else pl.concat([self.pool, rows])

    def draw(self, rows: Array, uniform: Array) -> Array:
        """See `Pool`."""
        return self.catalogue.draw(rows, uniform)

    def item(self, draws: Array) -> Array:
        """See `Pool`."""
        return np.asarray(self.catalogue.hashes[draws])

    def features(self, rows: Array, draws: Array) -> pl.DataFrame:
        """See `Pool`."""
        last = self.catalogue.last(rows, draws)
        pool = pl.DataFrame() if self.pool is None else self.pool
        return pool[np.where(last >= 0, self.start + last, self.place[draws])]

    def own(self, rows: Array) -> Array:
        """See `Pool`."""
        return np.asarray(self.catalogue.code[rows])

    def log_q(self, rows: Array, draws: Array) -> Array:
        """See `Pool`."""
        return self.catalogue.log_q(rows, draws)

    def close(self) -> None:
        """See `Pool`."""
        self.place[self.catalogue.code] = self.start + np.arange(len(self.catalogue.code))
        self.catalogue.close()
        if self.pool is not None and len(self.pool) > 2 * len(self.place) + len(self.catalogue.code):
            self.pool, self.place = self.pool[self.place], np.arange(len(self.place))


def pool_of(config: NegativesConfig) -> Pool:
    """Return the pool that `config` draws from."""
    return EventPool(config) if config.draw in ("window", "batch") else CataloguePool(config)
