"""A user's kept events: how they are stored, what is added to them, and which of them go.

A record is what a request's `history` would be, as JSON, in the order in which the events became known:

    {"items": [7, 9], "times": [1700000000.0, ...], "known": [1700000600.0, ...], "actions": ["positive", ...]}

times, known: seconds since 1970, to the microsecond; an event counts for requests after `known`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

__all__ = ["MAX_WAITING", "Event", "pack", "unpack", "updated"]

MAX_WAITING = 10_000  # events of a user that are not known yet
Id = int | str


class Event(NamedTuple):
    """An event of a history. time: when it happened; known: since when it counts, both in seconds since 1970."""

    item: Id
    time: float
    known: float
    action: str


def pack(events: Sequence[Event]) -> bytes:
    """Return the record of events."""
    items, times, known, actions = (list(column) for column in zip(*events, strict=True)) if events else ([],) * 4
    tree = {"items": items, "times": times, "known": known, "actions": actions}
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def unpack(record: bytes | str | None) -> list[Event]:
    """Return the events of a record, none of None. Raises ValueError, KeyError or TypeError for what is no record."""
    if record is None:
        return []
    tree = json.loads(record)
    return [Event(*one) for one in zip(tree["items"], tree["times"], tree["known"], tree["actions"], strict=True)]


def updated(
    events: list[Event], added: Iterable[Event], replaced: Iterable[Event], now: float, length: int
) -> tuple[list[Event], int]:
    """Return a user's events with those `added`, without those `replaced`, in the order in which they became known (of
    equal ones those that were there first), and how many were too many.

    Of those known before `now`, the newest `length` stay: whoever asks later sees no others. What is not known yet
    stays, up to MAX_WAITING.
    """
    left = list(events)
    for one in replaced:
        if one in left:
            left.remove(one)
    left = sorted([*left, *added], key=attrgetter("known"))
    known = sum(one.known < now for one in left)
    first = max(0, known - length)
    too_many = max(0, len(left) - known - MAX_WAITING)
    return left[first : len(left) - too_many], too_many
