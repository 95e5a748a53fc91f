"""The marks of a log's end are the same however the log is cut, and those that a look at the whole log finds."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.evaluate import marks
from recdistill.evaluate.marks import marked

IDS = st.one_of(st.none(), st.integers(0, 6))


def reference(rows: pl.DataFrame, cut: int) -> pl.DataFrame:
    """Return the marks by the whole log in memory."""
    found = rows.with_row_index("row").with_columns(
        seen=pl.int_range(pl.len()).over("user_id"),
        new_user=pl.col("row").min().over("user_id") >= cut,
        new_item=pl.col("row").min().over("item_id") >= cut,
    )
    return found.slice(cut)


@pytest.mark.parametrize("merged", [1, marks.MERGED])
@given(
    rows=st.lists(st.tuples(IDS, IDS), min_size=1, max_size=60),
    share=st.floats(0, 1),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_marks_are_those_of_the_whole_log(merged: int, rows: list[tuple[int, int]], share: float, cuts: list[int]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "MERGED", merged)
        frame = pl.DataFrame(rows, schema={"user_id": pl.Int64, "item_id": pl.Int64}, orient="row")
        edges, cut = [0, *sorted(cuts), len(frame)], int(share * len(frame))
        chunks = [frame.slice(low, high - low) for low, high in zip(edges, edges[1:], strict=False) if high >= low]
        assert marked(chunks, cut).equals(reference(frame, cut), null_equal=True)
