"""Rows of bytes: what comes back is within half a step, whatever the row holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recdistill.errors import RecdistillError
from recdistill.serve.rows import CODES, Int8Rows, int8_of, open_rows

LARGEST = float(np.finfo(np.float32).max)
floats = st.floats(-LARGEST, LARGEST, width=32)
rows_of_floats = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=floats)


@given(rows_of_floats)
def test_a_value_comes_back_within_half_a_step(rows: np.ndarray) -> None:
    codes, ranges = int8_of(rows)
    found = Int8Rows(codes, ranges)[np.arange(len(rows))]
    assert codes.dtype == np.uint8 and found.dtype == ranges.dtype == np.float32 and np.isfinite(found).all()
    wide = rows.astype(np.float64)
    step = (wide.max(1) - wide.min(1)) / CODES
    rounding = np.abs(wide).max(1) * 2.0**-22 + 1e-43  # of float32, and of the smallest that it holds
    assert (np.abs(found - wide) <= (step / 2 + rounding)[:, None]).all()


@given(hnp.arrays(np.float32, st.integers(0, 5), elements=floats), st.integers(1, 8))
def test_a_row_of_one_value_comes_back_as_it_is(values: np.ndarray, width: int) -> None:
    rows = np.repeat(values[:, None], width, 1)
    assert np.array_equal(Int8Rows(*int8_of(rows))[np.arange(len(rows))], rows)


def test_rows_are_read_by_their_numbers_in_any_order() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4) * CODES
    found = Int8Rows(*int8_of(rows))
    assert (len(found), found.shape, found.ndim, found.dtype) == (3, (3, 4), 2, np.float32)
    np.testing.assert_allclose(found[np.array([2, 0, 2])], rows[[2, 0, 2]], atol=2)


def test_a_table_without_its_ranges_is_none(tmp_path: Path) -> None:
    codes, ranges = int8_of(np.ones((3, 4), np.float32))
    np.save(tmp_path / "table_0.npy", codes)
    with pytest.raises(RecdistillError, match="range"):
        open_rows(tmp_path, 0)
    np.save(tmp_path / "table_0.range.npy", ranges[:2])
    with pytest.raises(RecdistillError, match="a minimum and a step for each"):
        open_rows(tmp_path, 0)
    np.save(tmp_path / "table_0.range.npy", ranges)
    assert np.array_equal(open_rows(tmp_path, 0)[np.array([1])], np.ones((1, 4)))
