"""A simulated log whose every true probability is known.

Each user likes a few of many topics for good, and each a little more with every click on it. Lists of items come at
random, so a topic returns only after about `topics` of the user's events: a short history has met few of the tastes, a
long one all. Items are born all along the log and their appeal drifts; position and device bias what is clicked; labels
become known later. Everything is drawn in slabs of requests, each by a generator of its own, so the data depends on
neither the chunks it is read in nor on what was read before; clicks move tastes from the next slab on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import polars as pl

from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["LIST", "SIMULATED", "START", "Impressions", "Simulator", "SimulatorConfig"]

START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)  # us
STAMP = pl.Datetime("us", "UTC")
LIST = 4  # samples of one request
SLAB = 4_096  # requests
STRONGEST, GROWTH = 3.0, 0.02  # of a taste: where it ends, and what a click adds
SIMULATED = EventSchema(
    ("click", "finish"),
    {"position": "int64", "device": "int64", "topic": "int64", "age_days": "float32"},
    has_request=True,
    label_times=("click", "finish"),
)


@dataclass(frozen=True)
class SimulatorConfig:
    """rows: samples; topics_liked: of `topics`, per user; days: length of the log; delay_minutes: mean delay of a
    click; renew_users, renew_items: the share of them whose place another takes per day, under an id never used before.

    A user has about rows / users events. Who takes a place has the tastes that were there, or the topic and quality;
    nothing in the log says so. UserError names the first value that cannot be.
    """

    rows: int = 200_000
    users: int = 2_000
    items: int = 3_000
    topics: int = 100
    topics_liked: int = 8
    days: float = 30.0
    delay_minutes: float = 10.0
    seed: int = 0
    renew_users: float = 0.0
    renew_items: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rows", "users", "items", "topics", "topics_liked", "seed"):
            value, least = getattr(self, name), int(name != "seed")
            if type(value) is not int or value < least:
                raise UserError(f"simulator: {name} must be a whole number, at least {least}; got {value!r}")
        for name in ("days", "delay_minutes", "renew_users", "renew_items"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value < math.inf or (name == "days" and not value):
                raise UserError(f"simulator: {name} must be a positive number; got {value!r}")
        if self.topics_liked > self.topics:
            raise UserError(f"simulator: topics_liked ({self.topics_liked}) must be at most topics ({self.topics})")


class Impressions(NamedTuple):
    """What was shown: user, item, position and device int64 [n], progress float64 [n], the time in lengths of the
    log.
    """

    user: Array
    item: Array
    progress: Array
    position: Array
    device: Array


def _distinct(draw: np.random.Generator, rows: int, choices: int, count: int) -> Array:
    """Return int32 [rows, count], numbers below `choices`, distinct within a row: Floyd's sampling, all
    rows at once.
    """
    chosen = np.empty((rows, count), np.int32)
    for k in range(count):
        last = choices - count + k
        pick = draw.integers(0, last + 1, rows)
        taken = (chosen[:, :k] == pick[:, None]).any(1)
        chosen[:, k] = np.where(taken, last, pick)
    return chosen


def _renewed(places: Array, count: int, share: float, day: Array) -> tuple[Array, Array]:
    """Return (int64 [n] the ids that have places below `count` on a day, float64 [n] days since they took them, since
    the first day where they are the first): a place's turn comes every 1 / share days, one place after the other.
    """
    turns = share * day + places / count
    turn = np.floor(turns)
    since = np.minimum((turns - turn) / share, day) if share else day
    return places + count * turn.astype(np.int64), since


def _sigmoid(logit: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logit)))


class Simulator:
    """Yields the log in time order, as often as asked; memory O(users x topics_liked + items + chunk).

    Columns are those of SIMULATED and `probability_<task>`, the truth: given everything, hidden tastes included. A
    finish needs a click, and `probability_finish` is of both.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        draw = np.random.default_rng(config.seed)
        self.liked = _distinct(draw, config.users, config.topics, config.topics_liked)
        self.strength: Array = np.asarray(draw.gamma(4.0, 0.45, self.liked.shape), np.float32)
        self.topic: Array = draw.integers(0, config.topics, config.items)
        self.quality: Array = draw.normal(0, 0.7, config.items)
        self.drift: Array = draw.normal(0, 0.6, config.items)  # of quality over the whole log
        born = draw.random(config.items)  # in lengths of the log; at least half of the items are older than it
        self.birth: Array = np.sort(np.where(np.arange(config.items) % 2, born, -born))

    def slabs(self) -> Iterator[pl.DataFrame]:
        """Yield SLAB requests of LIST samples at a time, the last slab shorter."""
        requests, strength = -(-self.config.rows // LIST), self.strength.copy()
        for first in range(0, requests, SLAB):
            slab = self._slab(first, min(SLAB, requests - first), strength)
            yield slab.head(self.config.rows - first * LIST)

    def _slab(self, first: int, requests: int, strength: Array) -> pl.DataFrame:
        """Draw the requests from `first` on; their clicks are added to `strength` in place."""
        config, draw = self.config, np.random.default_rng((self.config.seed, first))
        request = np.repeat(first + np.arange(requests), LIST)
        progress: Array = request * (LIST / config.rows)  # in [0, 1)
        user, device = (draw.integers(0, below, requests).repeat(LIST) for below in (config.users, 3))
        position = draw.permuted(np.tile(np.arange(LIST), (requests, 1)), axis=1).reshape(-1)
        item = self._shown(draw, progress)
        shown = Impressions(user, item, progress, position, device)
        click, finish = self.probabilities(shown, strength)
        clicked = draw.random(len(item)) < click
        finished = clicked & (draw.random(len(item)) < finish)
        self.grow(shown, clicked, strength)
        time = START + (progress * (config.days * 86_400e6)).astype(np.int64)
        users, _ = _renewed(user, config.users, config.renew_users, progress * config.days)
        items, since = _renewed(item, config.items, config.renew_items, progress * config.days)
        age = (progress - self.birth[item]) * config.days
        delay = draw.exponential(config.delay_minutes * 60e6, len(item)).astype(np.int64)
        return pl.DataFrame(
            {
                "sample_id": first * LIST + np.arange(len(item)),
                "time": pl.Series(time).cast(STAMP),
                "user_id": users,
                "item_id": items,
                "request_id": request,
                "feature_position": position,
                "feature_device": device,
                "feature_topic": self.topic[item],
                "feature_age_days": np.where(items == item, age, since).astype(np.float32),
                "label_click": clicked.astype(np.float32),
                "label_finish": finished.astype(np.float32),
                "label_time_click": pl.Series(time + delay).cast(STAMP),
                "label_time_finish": pl.Series(time + 2 * delay).cast(STAMP),
                "probability_click": click,
                "probability_finish": click * finish,
            }
        )

    def probabilities(self, shown: Impressions, strength: Array) -> tuple[Array, Array]:
        """Return (float64 [n]: of a click, float64 [n]: of a finish once it is clicked) of impressions, given the
        strength of every user's tastes, float32 [users, topics_liked].
        """
        user, item, progress, position, device = shown
        taste = np.minimum((strength[user] * self._hits(shown)).sum(1), STRONGEST)
        quality = self.quality[item] + self.drift[item] * (progress - 0.5)
        click = _sigmoid(-2.1 + 1.5 * taste + quality - 0.25 * position + 0.2 * (device == 2))
        return click, _sigmoid(-0.2 + 0.5 * self.quality[item] + 0.3 * (device == 1))

    def grow(self, shown: Impressions, clicked: Array, strength: Array) -> None:
        """Add to `strength`, in place, what the clicks, bool [n], do to their users' tastes."""
        of, slot = np.nonzero(self._hits(shown) & clicked[:, None])
        np.add.at(strength, (shown.user[of], slot), np.float32(GROWTH))

    def _hits(self, shown: Impressions) -> Array:
        """Return bool [n, topics_liked], at most one in a row: which of the user's tastes an item meets."""
        return np.asarray(self.liked[shown.user] == self.topic[shown.item, None])

    def strength_after(self, rows: int) -> Array:
        """Return the strength of every user's tastes after the first `rows` of the log."""
        requests, strength = -(-rows // LIST), self.strength.copy()
        for first in range(0, requests, SLAB):
            self._slab(first, min(SLAB, requests - first), strength)
        return strength

    def _shown(self, draw: np.random.Generator, progress: Array) -> Array:
        """Return int64 [n]: items born by then, newer ones a little more often."""
        alive = np.searchsorted(self.birth, progress, side="right")
        return np.minimum((draw.random(len(progress)) ** 0.7 * alive).astype(np.int64), alive - 1)

    def chunks(self, rows: int = 131_072) -> Iterator[pl.DataFrame]:
        """Yield the log in chunks of at least `rows`, the last one shorter."""
        held: list[pl.DataFrame] = []
        for slab in self.slabs():
            held.append(slab)
            if len(held) * SLAB * LIST >= rows:
                yield pl.concat(held)
                held = []
        if held:
            yield pl.concat(held)

    def truth(self) -> Iterator[pl.DataFrame]:
        """Yield sample_id, time and the true log-odds `logit_<task>`, in chunks as `PredictionLog.append` takes them.

        Scored like a model's, they give the AUC and NE that no model passes but by chance.
        """
        for chunk in self.chunks():
            logits = {}
            for task in SIMULATED.tasks:
                p = pl.col(f"probability_{task}")
                logits[f"logit_{task}"] = (p.log() - (-p).log1p()).cast(pl.Float32)
            yield chunk.select("sample_id", "time", **logits)
