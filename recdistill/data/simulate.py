"""A simulated log whose every true probability is known.

Each user likes a few of many topics and shows them one at a time, in visits weeks apart, so that only a long history
tells them all; tastes also grow with what is clicked. Items are born all along the log and drift; position and device
bias what is clicked; labels become known later. Users act in slabs, each at most once per slab, so that everything is
vectorised and the data does not depend on how it is cut into chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from recdistill.errors import UserError
from recdistill.tables import EventSchema

__all__ = ["SIMULATED", "Simulator", "SimulatorConfig"]

Array = np.ndarray[Any, np.dtype[Any]]
START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)  # us
LIST = 4  # samples of one request
SIMULATED = EventSchema(
    ("click", "finish"), {"position": "int64", "device": "int64", "topic": "int64", "age_days": "float32"},
    has_request=True, label_times=("click", "finish"),
)  # fmt: skip


@dataclass(frozen=True)
class SimulatorConfig:
    """rows: samples; topics_liked: of `topics`, per user; days: length of the log; delay_minutes: mean delay of a label."""

    rows: int = 200_000
    users: int = 2_000
    items: int = 3_000
    topics: int = 100
    topics_liked: int = 8
    days: float = 30.0
    delay_minutes: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rows", "users", "items", "topics", "topics_liked"):
            if getattr(self, name) < 1:
                raise UserError(f"simulator: {name} must be at least 1; got {getattr(self, name)}")


class Simulator:
    """Yields the log in time order; `probability_<task>` holds the truth beside the columns of SIMULATED."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        draw = np.random.default_rng(config.seed)
        self._draw = draw
        self.taste = np.zeros((config.users, config.topics), np.float32)
        liked = np.argsort(draw.random((config.users, config.topics)), 1)[:, : config.topics_liked]
        np.put_along_axis(self.taste, liked, draw.gamma(4.0, 0.45, liked.shape).astype(np.float32), 1)
        self.topic: Array = draw.integers(0, config.topics, config.items)
        self.quality = draw.normal(0, 0.7, config.items)
        self.drift = draw.normal(0, 0.6, config.items)  # quality per log length
        self.birth: Array = np.where(draw.random(config.items) < 0.5, -draw.random(config.items), draw.random(config.items))
        order = np.argsort(self.birth)
        self.topic, self.quality = self.topic[order], self.quality[order]
        self.drift, self.birth = self.drift[order], self.birth[order]

    def slabs(self) -> Iterator[pl.DataFrame]:
        """Yield one slab at a time: at most half of the users, each with one list of LIST samples."""
        done, request = 0, 0
        while done < self.config.rows:
            lists = min(max(1, self.config.users // 2), -(-(self.config.rows - done) // LIST), 16_384)
            slab = self._slab(done, request, lists)
            yield slab.head(self.config.rows - done)
            done, request = done + LIST * lists, request + lists

    def _slab(self, done: int, request: int, lists: int) -> pl.DataFrame:
        draw, config = self._draw, self.config
        users = draw.permutation(config.users)[:lists]
        progress = (done + LIST * np.arange(lists)) / config.rows
        alive = np.searchsorted(self.birth, progress, side="right").clip(LIST, config.items)
        fresh = draw.random((lists, LIST)) ** 0.7  # newer items are shown a little more
        items = np.minimum((fresh * alive[:, None]).astype(np.int64), alive[:, None] - 1)
        position = np.argsort(draw.random((lists, LIST)), 1)
        device = draw.integers(0, 3, lists)
        logit = self._logit(users, items, position, device, progress)
        click_p = 1 / (1 + np.exp(-logit))
        finish_p = click_p / (1 + np.exp(-(0.5 * self.quality[items] - 0.2 + 0.3 * (device[:, None] == 1))))
        click = draw.random((lists, LIST)) < click_p
        finish = click & (draw.random((lists, LIST)) < finish_p / click_p)
        row, slot = np.nonzero(click)
        np.add.at(self.taste, (users[row], self.topic[items[row, slot]]), 0.02)  # what is clicked is liked more
        length = config.days * 86_400e6
        time = START + np.sort((progress * length).astype(np.int64))
        delay = draw.exponential(config.delay_minutes * 60e6, (lists, LIST)).astype(np.int64)
        return self._frame(
            request, users, items, position, device, progress, time, click, finish, click_p, finish_p, delay
        )

    def _logit(self, users: Array, items: Array, position: Array, device: Array, progress: Array) -> Array:
        topic = self.topic[items]
        quality = self.quality[items] + self.drift[items] * (progress[:, None] - 0.5)
        bias = -0.25 * position + 0.2 * (device[:, None] == 2)
        return np.asarray(-2.1 + 1.5 * np.minimum(self.taste[users[:, None], topic], 3.0) + quality + bias)

    def _frame(self, request: int, users: Array, items: Array, position: Array, device: Array, progress: Array, time: Array,
               click: Array, finish: Array, click_p: Array, finish_p: Array, delay: Array) -> pl.DataFrame:  # fmt: skip
        lists = len(users)
        each = np.repeat(np.arange(lists), LIST)
        at, when = (request + each).astype(np.int64), time[each]
        known = when + delay.reshape(-1)
        stamp = pl.Datetime("us", "UTC")
        return pl.DataFrame({
            "sample_id": at * LIST + np.tile(np.arange(LIST), lists), "time": pl.Series(when).cast(stamp),
            "user_id": users[each].astype(np.int64), "item_id": items.reshape(-1), "request_id": at,
            "position": position.reshape(-1).astype(np.int64), "device": device[each].astype(np.int64),
            "topic": self.topic[items].reshape(-1).astype(np.int64),
            "age_days": ((progress[each] - self.birth[items.reshape(-1)]) * self.config.days).astype(np.float32),
            "label_click": click.reshape(-1).astype(np.float32), "label_finish": finish.reshape(-1).astype(np.float32),
            "label_time_click": pl.Series(known).cast(stamp), "label_time_finish": pl.Series(known + delay.reshape(-1)).cast(stamp),
            "probability_click": click_p.reshape(-1), "probability_finish": finish_p.reshape(-1),
        })  # fmt: skip

    def chunks(self, rows: int = 131_072) -> Iterator[pl.DataFrame]:
        """Yield the same log in chunks of at least `rows`, the last one shorter."""
        held: list[pl.DataFrame] = []
        for slab in self.slabs():
            held.append(slab)
            if sum(map(len, held)) >= rows:
                yield pl.concat(held)
                held = []
        if held:
            yield pl.concat(held)
