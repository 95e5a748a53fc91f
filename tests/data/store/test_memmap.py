"""Columns in files and JSON that is never seen half written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from recdistill.data.store.memmap import create_column, open_column, read_json, write_json
from recdistill.errors import RecdistillError


@pytest.mark.parametrize("shape", [(5, 2), (4096,), (0,), (3, 0)])
def test_a_column_starts_at_zero_and_comes_back_read_only(tmp_path: Path, shape: tuple[int, ...]) -> None:
    column = create_column(tmp_path / "store", "c", shape, "int32")
    assert column.shape == shape and not column.any()
    column[...] = np.arange(column.size).reshape(shape)
    if isinstance(column, np.memmap):
        column.flush()
    back = open_column(tmp_path / "store", "c")
    assert back.dtype == np.int32 and np.array_equal(back, np.arange(column.size).reshape(shape))
    if isinstance(back, np.memmap):
        with pytest.raises(ValueError, match="read-only"):
            back[:] = 1


def test_room_on_the_disk_is_taken_when_a_column_is_made(tmp_path: Path) -> None:
    create_column(tmp_path, "c", (1 << 18,), "int64")
    assert os.stat(tmp_path / "c.npy").st_blocks * 512 >= (1 << 18) * 8  # no holes that a full disk could not fill


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecdistillError, match="missing_one.npy: column missing from the store"):
        open_column(tmp_path, "missing_one")


def test_json_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"b": 1, "a": [1.5, None]})
    assert read_json(path) == {"a": [1.5, None], "b": 1}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": [1.5, None], "b": 1}
