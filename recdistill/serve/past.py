"""What a request brings of the user's past: the newest events that count, of the history and of each sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recdistill.errors import UserError
from recdistill.serve.request import Column, Past
from recdistill.serve.values import listed, times_of
from recdistill.typing import Array

__all__ = ["Events", "Kind", "newest"]


class Events(NamedTuple):
    """Events, oldest first: their items and the names of their actions, as given, and how long ago they were, int64 us
    [E], 0 where they have no times.
    """

    items: Column
    ago: Array
    actions: Sequence[Any]


class Kind(NamedTuple):
    """What is expected of a past: its field in a request, whether its events have times, how many actions there are."""

    field: str
    timed: bool
    actions: int


def newest(past: Past, kind: Kind, now: int, length: int) -> Events:
    """Return the newest `length` events that counted strictly before `now`, in us; of those without times the last
    ones, for they stand oldest first. UserError, which names the field, for what cannot be read.
    """
    _check(past, kind)
    if not kind.timed:
        events = len(past.items)
        chosen = slice(max(events - length, 0), None)
        return Events(past.items[chosen], np.zeros(min(events, length), np.int64), past.actions[chosen])
    times = times_of(past.times, f"{kind.field}.times")
    since = times_of(past.known, f"{kind.field}.known") if len(past.known) else times
    if len(since) and since[-1] < now and (since[1:] >= since[:-1]).all():  # as most callers send it
        chosen = slice(max(len(times) - length, 0), None)
        return Events(past.items[chosen], now - times[chosen], past.actions[chosen])
    order = np.argsort(since, kind="stable")
    order = order[since[order] < now][-length:]
    actions = [past.actions[at] for at in order] if past.actions else ()
    items = listed(past.items)
    return Events([items[at] for at in order], now - times[order], actions)


def _check(past: Past, kind: Kind) -> None:
    """Raise UserError for times or actions that are too few or too many; one action alone need not be named."""
    _per_item(past, f"{kind.field}.times", "a time", past.times, int(kind.timed), int(kind.timed))
    _per_item(past, f"{kind.field}.known", "a time", past.known, int(kind.timed), 0)
    _per_item(past, f"{kind.field}.actions", "an action", past.actions, kind.actions, int(kind.actions > 1))


def _per_item(past: Past, field: str, one: str, given: Column, kinds: int, needed: int) -> None:
    events, some = len(past.items), len(given) > 0
    if some and not kinds:
        raise UserError(f"{field}: its events have none in the log; leave them out")
    if len(given) != events and (some or needed):
        raise UserError(f"{field}: {one} per item was expected, {events:,}; got {len(given):,}")
