"""Records of a user's events: what goes in comes out, in the order in which it became known, and no more of it than is
read.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.serve import histories_record
from recdistill.serve.histories_file import past_of
from recdistill.serve.histories_record import Event, pack, unpack, updated

SECONDS = st.integers(0, 2 * 10**15).map(lambda us: us / 1e6)
EVENTS = st.lists(
    st.builds(Event, st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5), SECONDS, SECONDS, st.text(max_size=3))
)


@given(EVENTS)
def test_a_record_holds_what_was_packed(events: list[Event]) -> None:
    assert unpack(pack(events)) == events and unpack(None) == []
    past = past_of(pack(events))
    assert past is not None and list(zip(past.items, past.times, past.known, past.actions, strict=True)) == events
    assert [round(event.known * 1e6) / 1e6 for event in events] == [event.known for event in events]


@given(st.lists(st.integers(0, 30), max_size=25), st.integers(0, 30), st.integers(1, 6))
def test_whoever_asks_later_misses_nothing(known: list[int], now: int, length: int) -> None:
    """Event by event, the time moving on with them, up to `now`: as if all had been kept."""
    kept: list[Event] = []
    events = [Event(k, 0.0, float(at), "a") for k, at in enumerate(known)]
    for k, event in enumerate(events):
        kept, too_many = updated(kept, [event], (), float(min(now, k)), length)
        assert not too_many
    for asked in range(min(now, max(len(known) - 1, 0)), 32):
        want = [event for event in sorted(events, key=lambda event: event.known) if event.known < asked][-length:]
        assert [event for event in kept if event.known < asked][-length:] == want


def test_what_is_replaced_goes_once() -> None:
    twice = Event(1, 1.0, 9.0, "negative")
    left, _ = updated([twice, twice], [Event(1, 1.0, 3.0, "positive")], [twice], 0.0, 5)
    assert left == [Event(1, 1.0, 3.0, "positive"), twice]
    assert updated([], [], [twice], 0.0, 5) == ([], 0)


def test_what_waits_of_a_user_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories_record, "MAX_WAITING", 3)
    events = [Event(k, 0.0, float(k), "a") for k in range(10)]
    assert updated([], events, (), 2.5, 2) == (events[1:6], 4)


@pytest.mark.parametrize(
    "record",
    ["{", "[]", '{"items": [1]}', '{"items": [1], "times": [], "known": [], "actions": []}'],
)
def test_what_is_no_record_is_refused(record: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        unpack(record)
