"""The newest events of a request's past, whichever order they come in, and what is refused of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import UserError
from recdistill.serve.past import Kind, newest
from recdistill.serve.request import Past

SECOND = 1_000_000


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 5))
def test_the_newest_before_the_moment_are_kept_oldest_first(times: list[int], length: int) -> None:
    past = Past(list(range(len(times))), times, [f"a{at}" for at in range(len(times))])
    found = newest(past, Kind("history", True, 3), 20 * SECOND, length)
    wanted = sorted((at for at in range(len(times)) if times[at] < 20), key=lambda at: times[at])[-length:]
    assert list(found.items) == wanted and list(found.actions) == [f"a{at}" for at in wanted]
    assert found.ago.tolist() == [(20 - times[at]) * SECOND for at in wanted]


@given(st.integers(0, 9), st.integers(1, 5))
def test_without_times_the_last_are_kept_in_their_order(events: int, length: int) -> None:
    found = newest(Past(list(range(events))), Kind("sequences.carts", False, 0), 0, length)
    assert list(found.items) == list(range(events))[-length:]
    assert found.ago.tolist() == [0] * min(events, length) and found.ago.dtype == np.int64


@pytest.mark.parametrize(
    ("past", "kind", "line"),
    [
        (Past([1], []), Kind("history", True, 2), "history.times: a time per item was expected, 1; got 0"),
        (Past([1], [1.0]), Kind("history", True, 2), "history.actions: an action per item was expected, 1; got 0"),
        (Past([1, 2], [1.0, 2.0], ["a"]), Kind("history", True, 1), "history.actions: an action per item was expected"),
        (Past([1], [1.0]), Kind("sequences.carts", False, 0), "sequences.carts.times: its events have none in the log"),
        (Past([1], [1.0], ["a"]), Kind("sequences.carts", True, 0), "sequences.carts.actions: its events have none"),
        (Past([1], ["x"]), Kind("sequences.carts", True, 0), "sequences.carts.times: seconds since 1970 were expected"),  # type: ignore[list-item]
    ],
)
def test_a_past_that_cannot_be_read_names_its_field(past: Past, kind: Kind, line: str) -> None:
    with pytest.raises(UserError, match=line):
        newest(past, kind, 10 * SECOND, 3)
