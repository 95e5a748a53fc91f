"""Rows of fewer bytes: what comes back is within half a step, whatever the row holds; rows that are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recdistill.errors import RecdistillError, UserError
from recdistill.serve.rows import (
    CodedRows,
    HalfRows,
    KeptRows,
    MixedRows,
    SharedRows,
    SmallerRows,
    coded,
    kept_bits,
    open_rows,
)

LARGEST, LARGEST_HALF = float(np.finfo(np.float32).max), float(np.finfo(np.float16).max)
floats, halves = (st.floats(-most, most, width=32) for most in (LARGEST, LARGEST_HALF))
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


@given(hnp.arrays(np.float32, shapes, elements=floats))
@example(np.array([[7.9618e-41, 0.0]], np.float32))
def test_a_value_of_eight_bits_comes_back_within_half_a_step(rows: np.ndarray) -> None:
    codes, ranges = coded(rows, 8)
    found = CodedRows(codes, ranges, rows.shape[1])[np.arange(len(rows))]
    assert codes.dtype == np.uint8 and found.dtype == ranges.dtype == np.float32 and np.isfinite(found).all()
    wide = rows.astype(np.float64)
    step = (wide.max(1) - wide.min(1)) / 255
    rounding = np.abs(wide).max(1) * 2.0**-22 + 255 * 2.0**-149  # of float32, and of 255 of the smallest steps it holds
    assert (np.abs(found - wide) <= (step / 2 + rounding)[:, None]).all()


@given(hnp.arrays(np.float32, shapes, elements=halves))
def test_a_value_of_four_bits_comes_back_within_half_a_step(rows: np.ndarray) -> None:
    codes, ranges = coded(rows, 4)
    found = CodedRows(codes, ranges, rows.shape[1])[np.arange(len(rows))]
    assert codes.shape == (len(rows), (rows.shape[1] + 1) // 2) and ranges.dtype == np.float16
    assert found.dtype == np.float32 and found.shape == rows.shape and np.isfinite(found).all()
    wide = rows.astype(np.float64)
    step = (wide.max(1) - wide.min(1)) / 15
    rounding = np.abs(wide).max(1) * 2.0**-9 + 1e-6  # of float16, and of the smallest steps that it holds
    assert (np.abs(found - wide) <= (step / 2 + rounding)[:, None]).all()


@given(hnp.arrays(np.float32, st.integers(0, 5), elements=floats), st.integers(1, 8))
def test_a_row_of_one_value_comes_back_as_it_is(values: np.ndarray, width: int) -> None:
    rows = np.repeat(values[:, None], width, 1)
    assert np.array_equal(CodedRows(*coded(rows, 8), width)[np.arange(len(rows))], rows)


@pytest.mark.parametrize("bits", [8, 4])
def test_rows_are_read_by_their_numbers_in_any_order(bits: int) -> None:
    rows = np.arange(15, dtype=np.float32).reshape(3, 5) * ((1 << bits) - 1)
    found = CodedRows(*coded(rows, bits), 5)
    assert (len(found), found.shape, found.ndim, found.dtype) == (3, (3, 5), 2, np.float32)
    np.testing.assert_allclose(found[np.array([2, 0, 2])], rows[[2, 0, 2]], atol=2.01)
    assert not found[np.array([0])][0, 0] and not CodedRows(*coded(rows * 0, bits), 5)[np.array([1])].any()


@given(hnp.arrays(np.bool_, st.integers(1, 300)), st.data())
def test_rows_that_are_kept_are_found_and_others_read_the_padding(keep: np.ndarray, data: st.DataObject) -> None:
    """A row is its index: row k of the ids is [k, k]."""
    keep[0] = True
    rows = np.repeat(np.flatnonzero(keep).astype(np.float32)[:, None], 2, 1)
    table = KeptRows(rows, kept_bits(keep))
    asked = np.array(data.draw(st.lists(st.integers(0, len(keep) - 1))), np.int64)
    assert np.array_equal(table[asked], np.repeat(np.where(keep[asked], asked, 0)[:, None], 2, 1))
    assert len(table) >= len(keep) and table.shape[1] == 2


def test_a_table_whose_files_do_not_fit_together_is_none(tmp_path: Path) -> None:
    codes, ranges = coded(np.ones((3, 4), np.float32), 8)
    np.save(tmp_path / "table_0.npy", codes)
    with pytest.raises(RecdistillError, match="range"):
        open_rows(tmp_path, 0, 4)
    for wrong in (ranges[:2], ranges.astype(np.float64), ranges.astype(np.float16)):  # codes of 4 bits are half as wide
        np.save(tmp_path / "table_0.range.npy", wrong)
        with pytest.raises(RecdistillError, match="a minimum and a step for each"):
            open_rows(tmp_path, 0, 4)
    np.save(tmp_path / "table_0.range.npy", ranges)
    assert np.array_equal(open_rows(tmp_path, 0, 4)[np.array([1])], np.ones((1, 4)))


@pytest.mark.parametrize("kept", [[], [6], [7 << 1], [3], [15], [7.0]])
def test_what_does_not_say_which_ids_have_the_rows_is_refused(kept: list[float]) -> None:
    array = np.array(kept, np.uint64 if all(isinstance(one, int) for one in kept) else np.float64)
    with pytest.raises(RecdistillError, match="a row for each index"):
        KeptRows(np.zeros((3, 2), np.float32), array)


def test_ids_that_share_rows_read_that_of_their_remainder(tmp_path: Path) -> None:
    rows = np.repeat(np.arange(4, dtype=np.float32)[:, None], 2, 1)
    np.save(tmp_path / "table_0.npy", rows)
    np.save(tmp_path / "table_0.shared.npy", np.array([3]))
    found = open_rows(tmp_path, 0, 2)
    assert isinstance(found, SharedRows) and found.shape[1] == 2 and len(found) > 10**12
    assert found[np.array([0, 1, 3, 4, 6, 7, 10**12])][:, 0].tolist() == [0, 1, 3, 1, 3, 1, 1]
    np.save(tmp_path / "table_0.quotient.npy", np.array([[0, 0], [1, 1], [10, 100]], np.float32))
    np.save(tmp_path / "table_0.shared.npy", np.array([3, 2]))
    times = open_rows(tmp_path, 0, 2)[np.array([0, 1, 3, 4, 6, 7])]
    assert times.tolist() == [[0, 0], [1, 1], [3, 3], [10, 100], [30, 300], [1, 1]]
    with pytest.raises(RecdistillError, match="how many rows ids share"):
        SharedRows(rows, np.array([3, 3]), rows[:3])
    for wrong in (np.array([4]), np.array([0]), np.array([3, 3]), np.array([3.0])):
        with pytest.raises(RecdistillError, match="how many rows ids share"):
            SharedRows(rows, wrong)


def test_rows_of_mixed_widths_are_filled_up_with_zeros(tmp_path: Path) -> None:
    """Of 4 ids all have 3 numbers, of 4 bits, and two of them 2 more."""
    codes, ranges = coded(np.repeat(np.arange(5, dtype=np.float32)[:, None], 3, 1), 4)
    for name, array in {"": codes, ".range": ranges, ".narrow": np.array([3])}.items():
        np.save(tmp_path / f"table_0{name}.npy", array)
    np.save(tmp_path / "table_0.rest.npy", np.array([[0, 0], [20, 21], [40, 41]], np.float32))
    np.save(tmp_path / "table_0.rest.kept.npy", np.array([0b10101], np.uint64))
    found = open_rows(tmp_path, 0, 5)
    assert isinstance(found, MixedRows) and found.shape == (5, 5)
    assert found[np.array([4, 0, 3])].tolist() == [[4, 4, 4, 40, 41], [0] * 5, [3, 3, 3, 0, 0]]
    for wrong in (np.array([5]), np.array([0]), np.array([3.0])):
        np.save(tmp_path / "table_0.narrow.npy", wrong)
        with pytest.raises(RecdistillError, match="how many of 5 numbers"):
            open_rows(tmp_path, 0, 5)


def test_half_rows_are_read_as_floats(tmp_path: Path) -> None:
    np.save(tmp_path / "table_1.npy", np.full((3, 2), 0.1, np.float16))
    np.save(tmp_path / "table_1.kept.npy", np.array([0b1101], np.uint64))
    found = open_rows(tmp_path, 1, 2)
    assert isinstance(found, KeptRows) and isinstance(found.rows, HalfRows)
    read = found[np.array([3, 1])]
    assert read.dtype == np.float32 and np.array_equal(read, np.full((2, 2), np.float16(0.1), np.float32))


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"drop": 1.0}, "share"),
        ({"drop": -0.1}, "share"),
        ({"min_seen": -1}, "min seen"),
        ({"max_loss": float("nan")}, "max loss"),
    ],
)
def test_what_is_asked_for_is_checked(keys: dict[str, float], line: str) -> None:
    with pytest.raises(UserError, match=line):
        SmallerRows(**keys)  # type: ignore[arg-type]
