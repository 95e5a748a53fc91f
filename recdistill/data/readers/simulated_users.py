"""The simulator's users, live: they come after a log's first rows, and click on what they are shown.

Everything is drawn per visit, so that what a user does depends on what is shown and on nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recdistill.data.readers.simulator import LIST, START, Impressions, Simulator
from recdistill.errors import UserError
from recdistill.typing import Array

__all__ = ["Clicks", "SimulatedUsers", "Visits"]

NEWER = 1 / 0.7  # as in the log: newer items come a little more often


class Visits(NamedTuple):
    """R visits and the C candidates of each: number, user and device int64 [R], time int64 us [R], progress float64
    [R], items int64 [R, C], age_days float32 [R, C], topic int64 [R, C].
    """

    number: Array
    user: Array
    device: Array
    time: Array
    progress: Array
    items: Array
    age_days: Array
    topic: Array


class Clicks(NamedTuple):
    """What happened to the lists, [R, LIST] each: clicked and finished, bool; when that was known, int64 us."""

    clicked: Array
    finished: Array
    click_known: Array
    finish_known: Array


class SimulatedUsers:
    """The users of a simulated log after its first `rows`; candidates: items that each visit may be shown. Raises
    UserError for more than half of the items: so many are older than the log; and for
    ids that are renewed.
    """

    def __init__(self, simulator: Simulator, rows: int, candidates: int) -> None:
        items, least = simulator.config.items, 2 * candidates
        if items < least:
            raise UserError(
                f"simulator: items must be at least {least} where {candidates} are ranked at a time; got {items}"
            )
        if simulator.config.renew_users or simulator.config.renew_items:
            raise UserError(
                "simulator: renew_users and renew_items are of a log, not of users who are served; leave them out"
            )
        self.simulator, self.candidates = simulator, candidates
        self.first = -(-rows // LIST)  # the first visit
        self.end = simulator.config.rows // LIST
        self.strength = simulator.strength_after(rows)

    def visits(self, first: int, count: int) -> Visits:
        """Return the visits from number `first` on, fewer than `count` at the end."""
        config, world = self.simulator.config, self.simulator
        draw = np.random.default_rng((config.seed, first, 1))
        number = np.arange(first, min(first + count, self.end))
        progress = number * (LIST / config.rows)
        items = self._candidates(draw, progress)
        return Visits(
            number,
            draw.integers(0, config.users, len(number)),
            draw.integers(0, 3, len(number)),
            START + (progress * (config.days * 86_400e6)).astype(np.int64),
            progress,
            items,
            ((progress[:, None] - world.birth[items]) * config.days).astype(np.float32),
            world.topic[items],
        )

    def _candidates(self, draw: np.random.Generator, progress: Array) -> Array:
        """Return int64 [R, C]: distinct items born by then (Gumbel's trick: the largest of weights with noise)."""
        alive = np.searchsorted(self.simulator.birth, progress, side="right")[:, None]
        at = np.arange(len(self.simulator.birth))
        edges = (np.stack((at, at + 1))[:, None] / alive).clip(max=1) ** NEWER
        with np.errstate(divide="ignore"):
            weight = np.log(edges[1] - edges[0])  # -inf for those to come
        noisy = weight + draw.gumbel(size=weight.shape)
        return np.argsort(-noisy, axis=1)[:, : self.candidates]

    def probability(self, visits: Visits, items: Array, position: Array) -> Array:
        """Return float64 like `items` [R, n]: of a click on each, at these positions."""
        shown = self._impressions(visits, items, position)
        return self.simulator.probabilities(shown, self.strength)[0].reshape(items.shape)

    def _impressions(self, visits: Visits, items: Array, position: Array) -> Impressions:
        def flat(values: Array) -> Array:
            return np.broadcast_to(values, items.shape).reshape(-1)

        one = [values[:, None] for values in (visits.user, visits.progress, visits.device)]
        return Impressions(flat(one[0]), items.reshape(-1), flat(one[1]), flat(position), flat(one[2]))

    def click(self, visits: Visits, items: Array) -> Clicks:
        """Return what users do with lists of items [R, LIST], the best first; their tastes grow with it."""
        draw = np.random.default_rng((self.simulator.config.seed, int(visits.number[0]), 2))
        shown = self._impressions(visits, items, np.arange(items.shape[1]))
        click, finish = self.simulator.probabilities(shown, self.strength)
        clicked = draw.random(len(click)) < click
        finished = clicked & (draw.random(len(click)) < finish)
        self.simulator.grow(shown, clicked, self.strength)
        delay = draw.exponential(self.simulator.config.delay_minutes * 60e6, len(click)).astype(np.int64)
        time = visits.time[:, None]
        like = items.shape
        return Clicks(
            clicked.reshape(like),
            finished.reshape(like),
            time + delay.reshape(like),
            time + 2 * delay.reshape(like),
        )
