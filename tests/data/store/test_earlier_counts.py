"""Earlier counts against counting pair by pair."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.earlier_counts import earlier_counts
from recdistill.data.store.label_order import LabelClock

ROW = st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 6), st.sampled_from([0.0, 1.0, np.nan]))


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, max_size=25))
def test_counts_are_those_of_labels_known_strictly_before(rows: list[tuple[int, int, int, float]]) -> None:
    key, time, delay, label = (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.zeros(0)] * 4
    key, time, known = key.astype(np.int64), time.astype(np.int64), (time + delay).astype(np.int64)
    number, positives = earlier_counts(key, time, LabelClock().counted(time, label.astype(np.float64), known))
    earlier = (key[None] == key[:, None]) & (known[None] < time[:, None]) & ~np.isnan(label)[None]
    assert number.tolist() == earlier.sum(1).tolist()
    assert positives.tolist() == (earlier * np.nan_to_num(label)[None]).sum(1).tolist()


def test_rows_of_one_moment_know_nothing_of_each_other() -> None:
    same = np.zeros(3, np.int64)
    number, positives = earlier_counts(same, same, LabelClock().counted(same, np.ones(3), same))
    assert number.tolist() == positives.tolist() == [0.0, 0.0, 0.0]
