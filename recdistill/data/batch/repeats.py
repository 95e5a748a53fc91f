"""Whether a sample's item is in its user's history already, how often, and since when: three numbers per sample.

Embeddings learn that an item resembles those before it, but hardly that it *is* one of them, least of all for an item
that was just met; the exact match is the hard search of SIM (2006.05639, section 4.2), reduced to what it counts.
"""

from __future__ import annotations

import numpy as np

from recdistill.defaults import SECOND
from recdistill.typing import Array

__all__ = ["REPEATS", "repeats", "repeats_of_one"]

REPEATS = 3  # numbers per sample
DAY_LOG2 = np.log2(1 + 86_400)


def repeats(item: Array, of: Array, event_item: Array, ago: Array, offsets: Array, scratch: Array) -> Array:
    """Return float32 [B, REPEATS]: ln(1 + events of the item), 1 / (1 + events since its newest), and that one's age
    as 1 / (1 + log2(1 + seconds) / log2(1 + a day)); 0, 0, 0 without any.

    item: int [B], 0 for an unknown one, which never matches; of: int [B], each sample's history; event_item: int [T],
    oldest first, and ago: int64 us [T], in R histories that offsets [R + 1] cut. scratch: int64, longer than the
    largest id; its content is overwritten.
    """
    out = np.zeros((len(item), REPEATS), np.float32)
    known = np.flatnonzero(item)
    hits = _of_these(event_item, item[known], scratch)
    if not len(hits):
        return out
    width = int(max(item.max(), event_item.max())) + 1
    keys = (np.searchsorted(offsets, hits, side="right") - 1) * width + event_item[hits]
    order = np.argsort(keys, kind="stable")
    wanted = np.asarray(of[known], np.int64) * width + item[known]
    keys = keys[order]
    low, high = (np.searchsorted(keys, wanted, side=side) for side in ("left", "right"))
    some = np.flatnonzero(high > low)
    at, newest = known[some], hits[order[high[some] - 1]]
    out[at] = _numbers(high[some] - low[some], offsets[of[at] + 1] - newest, ago[newest])
    return out


def repeats_of_one(item: Array, event_item: Array, ago: Array) -> Array:
    """Return `repeats` of one history, that of a request's user; item and event_item: int64."""
    out = np.zeros((len(item), REPEATS), np.float32)
    if not len(event_item):
        return out
    events = len(event_item)
    keys = np.sort(event_item * events + np.arange(events))  # by item, then by place
    wanted = item * events
    high = keys.searchsorted(wanted + events)
    newest = keys[high - 1] - wanted
    at = np.flatnonzero((newest.view(np.uint64) < events) & (item > 0))  # a negative one is a huge one
    if len(at):
        count, newest = high[at] - keys.searchsorted(wanted[at]), newest[at]
        out[at] = _numbers(count, events - newest, ago[newest])
    return out


def _numbers(count: Array, since: Array, ago: Array) -> Array:
    """Return float64 [n, REPEATS]; since: events from the newest on, that one counted."""
    numbers = np.log1p(count), 1 / since, 1 / (1 + np.log2(1 + ago / SECOND) / DAY_LOG2)
    return np.array(numbers).T


def _of_these(values: Array, wanted: Array, scratch: Array) -> Array:
    """Return the places of the values that are among those wanted; O(n), and a range of ids is never allocated."""
    if not len(wanted):
        return np.zeros(0, np.int64)
    scratch[wanted] = np.arange(len(wanted))
    place = scratch[values]
    return np.flatnonzero((place < len(wanted)) & (wanted[np.minimum(place, len(wanted) - 1)] == values))
