"""Sorting and joining on disk, against polars in memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.store.piles import in_order, joined
from recdistill.errors import RecdistillError

EXTREMES = [-(2**63), 2**63 - 1, 0]
KEYS = st.one_of(st.integers(-3, 3), st.sampled_from(EXTREMES), st.integers(-(2**63), 2**63 - 1))
PAIRS = st.lists(st.tuples(KEYS, st.integers(0, 2)), min_size=1, max_size=40)
TEXTS = st.lists(st.sampled_from(["", "a", "b", "0", "00", "é"]), min_size=1, max_size=12)


def cut(frame: pl.DataFrame, size: int) -> list[pl.DataFrame]:
    return [frame.slice(low, size) for low in range(0, len(frame), size)]


@given(PAIRS, st.integers(1, 9), st.integers(1, 9))
def test_rows_come_in_the_order_of_a_sort_in_memory(rows: list[tuple[int, int]], size: int, most: int) -> None:
    frame = pl.DataFrame(rows, schema={"at": pl.Int64, "late": pl.Int64}, orient="row").with_row_index("came")
    with TemporaryDirectory() as name:
        parts = list(in_order(cut(frame, size), ["at", "late"], Path(name), most))
        assert pl.concat(parts).equals(frame.sort("at", "late", maintain_order=True))
        equal = frame.group_by("at", "late").len()["len"].max()
        assert max(map(len, parts)) <= max(most, equal)
        assert not list(Path(name).iterdir())


@given(TEXTS, TEXTS, st.integers(1, 5))
def test_a_join_by_parts_is_the_join(left: list[str], right: list[str], size: int) -> None:
    one = pl.DataFrame({"key": left}).with_row_index("left")
    other = pl.DataFrame({"key": right}).with_row_index("right")
    most = max(left.count(key) for key in left), max(right.count(key) for key in right)
    with TemporaryDirectory() as name:
        parts = list(joined(cut(one, size), cut(other, size), "key", Path(name), max(most)))
        assert all(max(len(a), len(b)) <= max(most) for a, b in parts)
        found = pl.concat([one.join(other, on="key").head(0), *(a.join(b, on="key") for a, b in parts)])
        assert found.sort("left", "right").equals(one.join(other, on="key").sort("left", "right"))
        assert not list(Path(name).iterdir())


def test_a_key_of_too_many_rows_is_refused_in_one_line(tmp_path: Path) -> None:
    rows = pl.DataFrame({"key": ["a"] * 5})
    with pytest.raises(RecdistillError, match="more than 4 rows have one key: memory does not hold their join"):
        list(joined([rows], [rows], "key", tmp_path, 4))
    assert not list(tmp_path.iterdir())
