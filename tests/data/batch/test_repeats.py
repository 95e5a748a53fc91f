"""The exact match of an item with its user's history, against a loop over the events."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.batch.repeats import REPEATS, repeats, repeats_of_one

DAY = 86_400


def by_loop(item, of, event_item, ago, offsets):
    """Return the same, one event after another."""
    out = np.zeros((len(item), REPEATS))
    for b, (wanted, r) in enumerate(zip(item, of, strict=True)):
        events = range(offsets[r], offsets[r + 1])
        same = [t for t in events if event_item[t] == wanted and wanted != 0]
        if same:
            age = np.log2(1 + ago[same[-1]] / 1e6) / np.log2(1 + DAY)
            out[b] = np.log(1 + len(same)), 1 / (1 + offsets[r + 1] - 1 - same[-1]), 1 / (1 + age)
    return out


@given(st.integers(0, 2**32 - 1))
def test_they_are_what_a_loop_over_the_events_finds(seed):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 6, draw.integers(1, 5))
    offsets = np.r_[0, lengths.cumsum()]
    of = np.sort(draw.integers(0, len(lengths), draw.integers(1, 9)))
    item, events = draw.integers(0, 5, len(of)), draw.integers(0, 5, offsets[-1])
    ago = draw.integers(0, 10**13, offsets[-1])
    given_ = item, of, events, ago, offsets
    np.testing.assert_allclose(repeats(*given_, np.full(6, 9)), by_loop(*given_), rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_those_of_one_history_are_the_same_to_the_bit(seed):
    draw = np.random.default_rng(seed)
    events, of = int(draw.integers(0, 9)), np.zeros(int(draw.integers(1, 9)), int)
    item, event_item = draw.integers(0, 5, len(of)), draw.integers(0, 5, events)
    ago = draw.integers(0, 10**13, events)
    wanted = repeats(item, of, event_item, ago, np.array([0, events]), np.full(6, 9))
    assert np.array_equal(repeats_of_one(item, event_item, ago), wanted)


def test_an_item_chosen_a_day_ago_as_the_last_thing():
    found = repeats(
        np.array([7, 8]),
        np.array([0, 0]),
        np.array([7, 7]),
        np.array([3 * DAY, DAY]) * 10**6,
        np.array([0, 2]),
        np.zeros(9, int),
    )
    np.testing.assert_allclose(found, [[np.log(3), 1, 0.5], [0, 0, 0]], rtol=1e-6)
