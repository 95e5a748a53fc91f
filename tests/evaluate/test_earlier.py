"""Sums and first times strictly before a moment, against a loop over every event."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from recdistill.evaluate.earlier import first_times, sums_before

EVENT = st.tuples(st.integers(0, 12), st.integers(0, 4), st.floats(-3, 3, width=16))  # time, key, value
QUESTION = st.tuples(st.integers(0, 5), st.integers(-1, 14), st.integers(-1, 14))  # key, two moments


@given(
    st.lists(EVENT, max_size=30), st.lists(QUESTION, max_size=20), st.lists(st.integers(0, 30), max_size=5).map(sorted)
)
@example([(3, 1, 1.0), (3, 1, 2.0)], [(1, 3, 4)], [1])  # an instant cut in two
def test_sums_are_those_of_a_loop(
    events: list[tuple[int, int, float]], asked: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    events = sorted(events, key=lambda event: event[0])
    columns = np.array(events, float).reshape(-1, 3)
    parts = np.split(columns, [min(cut, len(events)) for cut in cuts])
    chunks = (
        (p[:, 0].astype(np.int64), p[:, 1].astype(np.int64), np.stack([np.ones(len(p)), p[:, 2]], 1)) for p in parts
    )
    questions = np.array(asked, np.int64).reshape(-1, 3)
    found = sums_before(chunks, questions[:, 0], [questions[:, 1], questions[:, 2]], 2)
    for row, (key, *moments) in enumerate(asked):
        for column, moment in enumerate(moments):
            values = [value for time, own, value in events if own == key and time < moment]
            assert found[column][row, 0] == len(values)
            assert abs(found[column][row, 1] - sum(values)) < 1e-9


@given(st.lists(EVENT, max_size=30), st.lists(st.integers(0, 6), max_size=10), st.integers(0, 30))
def test_first_times_are_those_of_a_loop(events: list[tuple[int, int, float]], asked: list[int], cut: int) -> None:
    columns = np.array([event[:2] for event in events], np.int64).reshape(-1, 2)
    chunks = [(part[:, 0], part[:, 1]) for part in np.split(columns, [min(cut, len(events))])]
    found = first_times(chunks, np.array(asked, np.int64))
    never = np.iinfo(np.int64).max
    assert found.tolist() == [min((t for t, key, _ in events if key == one), default=never) for one in asked]
