"""A queue of rows against plain lists, through any order of appends, drops and restores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.store.row_queue import RowQueue

STEP = st.one_of(st.tuples(st.just("append"), st.integers(0, 9)), st.tuples(st.just("drop"), st.integers(0, 9)))


@given(st.lists(STEP, max_size=30), st.integers(0, 30))
def test_rows_are_those_appended_and_not_dropped(steps: list[tuple[str, int]], restored_at: int) -> None:
    queue, rows, dropped, made = RowQueue(), list[int](), 0, 0
    for number, (what, count) in enumerate(steps):
        if what == "append":
            new = np.arange(made, made + count)
            queue.append({"id": new, "pair": np.stack((new, -new), 1).astype(np.float32)})
            rows, made = rows + new.tolist(), made + count
        else:
            count = min(count, len(rows))
            queue.drop(count)
            rows, dropped = rows[count:], dropped + count
        if number == restored_at:
            again = RowQueue()
            again.restore(queue.first, queue.state())
            queue = again
        assert (len(queue), queue.first) == (len(rows), dropped)
        if made:
            assert queue["id"].tolist() == rows and queue["pair"].tolist() == [[k, -k] for k in rows]


def test_a_column_is_a_view_that_may_be_written_to() -> None:
    queue = RowQueue()
    queue.append({"label": np.zeros(3)})
    queue.drop(1)
    queue["label"][0] = 7
    assert queue["label"].tolist() == [7, 0] and queue.state()["label"].tolist() == [7, 0]
