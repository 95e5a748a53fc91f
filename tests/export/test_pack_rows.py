"""Which rows stay, and how they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.defaults import RowKind
from recdistill.errors import UserError
from recdistill.export.pack_rows import lengths, pack, rows_kept
from recdistill.serve.rows import open_rows

lists = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@given(st.lists(lists, min_size=1, max_size=3), st.floats(0, 0.99), st.integers(0, 9))
def test_the_shortest_rows_of_all_tables_go_and_those_hardly_seen(
    tables: list[list[int]], drop: float, min_seen: int
) -> None:
    length = [np.array(one, np.float32) for one in tables]
    seen = [np.array(one[::-1]) for one in tables]
    keep = rows_kept(length, seen, drop, min_seen)
    rows = sorted((one, at, row) for at, table in enumerate(tables) for row, one in enumerate(table) if row)
    gone = {(at, row) for _, at, row in rows[: int(drop * len(rows))]}
    for at, table in enumerate(keep):
        wanted = [not row or ((at, row) not in gone and seen[at][row] >= min_seen) for row in range(len(table))]
        assert table.tolist() == wanted


def test_lengths_are_euclidean(tmp_path: Path) -> None:
    np.save(tmp_path / "table_2.npy", np.array([[0, 0], [3, -4], [1e20, 0]], np.float32))
    assert np.array_equal(lengths(tmp_path, "table_2"), np.array([0, 5, 1e20], np.float32))


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int4"])
@pytest.mark.parametrize("width", [2, 3, 16])
def test_rows_come_back_of_those_that_stay(tmp_path: Path, kind: RowKind, width: int) -> None:
    rows = np.random.default_rng(0).normal(size=(70, width)).astype(np.float32)
    rows[0] = 0
    keep = np.arange(70) % 3 == 0
    np.save(tmp_path / "table_0.npy", rows)
    pack(tmp_path, "table_0", keep, kind)
    found = open_rows(tmp_path, 0, width)[np.arange(70)]
    near = {"float32": 0.0, "float16": 1e-2, "int8": 0.02, "int4": 0.3}[kind] if width > 2 or kind == "float16" else 0.0
    np.testing.assert_allclose(found, np.where(keep[:, None], rows, 0), atol=near)
    written = {path.name: np.load(path) for path in tmp_path.iterdir()}
    coded = width > 2 and kind in ("int8", "int4")
    assert set(written) == {"table_0.npy", "table_0.kept.npy", *(["table_0.range.npy"] if coded else [])}
    assert len(written["table_0.npy"]) == 24 and written["table_0.kept.npy"].nbytes == 16
    if width == 16:
        most = {"float32": 64, "float16": 32, "int8": 24, "int4": 12}[kind]
        assert sum(one.nbytes for one in written.values()) == 24 * most + 16


def test_all_rows_need_no_map(tmp_path: Path) -> None:
    np.save(tmp_path / "table_0.npy", np.ones((3, 4), np.float32))
    pack(tmp_path, "table_0", np.ones(3, np.bool_), "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["table_0.npy"]


@pytest.mark.parametrize("kind", ["float16", "int4"])
def test_a_number_that_does_not_fit_is_refused(tmp_path: Path, kind: RowKind) -> None:
    np.save(tmp_path / "table_0.npy", np.full((3, 4), 7e4, np.float32))
    with pytest.raises(UserError, match=f"rows as {kind}: a row holds a number beyond 65,504; write them as int8"):
        pack(tmp_path, "table_0", np.ones(3, np.bool_), kind)
