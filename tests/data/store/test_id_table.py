"""A table of ids against a dict: what was added is found, nothing else is, whatever grows, falls together or is taken
back.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store import id_table
from recdistill.data.store.id_table import IdTable, keys_of
from recdistill.errors import RecdistillError

NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 30), unique=True, max_size=40)
TEXTS = st.lists(st.text(max_size=4) | st.sampled_from(["", "a", "a\0", "ä", "0", "-1"]), unique=True, max_size=40)


@settings(max_examples=60, deadline=None)
@given(NUMBERS | TEXTS, st.data())
def test_it_answers_as_a_dict(ids: list[object], data: st.DataObject) -> None:
    cut, last = (data.draw(st.integers(0, len(ids))) for _ in range(2))
    with TemporaryDirectory() as folder, patch.object(id_table, "FIRST", 2), patch.object(id_table, "PIECE", 3):
        table = IdTable(Path(folder) / "users.ids.npy")
        want = {one: at for at, one in enumerate(ids, start=1)}
        table.add(keys_of(ids[:cut]), 1)
        assert table.find(keys_of(ids)).tolist() == [at if at <= cut else 0 for at in want.values()]
        table.add(keys_of(ids[cut:]), cut + 1)
        assert table.find(keys_of(ids)).tolist() == [*want.values()]
        table.flush()
        assert IdTable.opened(table.path).find(keys_of(ids)).tolist() == [*want.values()]
        again = IdTable(table.path)
        assert again.restore(last) == last
        assert again.find(keys_of(ids)).tolist() == [at if at <= last else 0 for at in want.values()]
        again.add(keys_of(ids[last:][::-1]), last + 1)  # in another order
        assert again.find(keys_of(ids[last:][::-1])).tolist() == [*range(last + 1, len(ids) + 1)]
        assert again.find(keys_of(ids[:last])).tolist() == [*range(1, last + 1)]


def test_ids_that_want_one_slot_all_have_their_own(tmp_path: Path) -> None:
    with patch.object(IdTable, "_home", lambda self, keys: np.full(len(keys), len(self._slots) - 1)):
        table = IdTable(tmp_path / "t.npy")
        table.add(keys_of(range(200)), 1)
        assert table.find(keys_of(range(210))).tolist() == [*range(1, 201), *[0] * 10]


def test_neighbouring_numbers_land_far_apart(tmp_path: Path) -> None:
    table = IdTable(tmp_path / "t.npy")
    table.add(keys_of(range(0, 400_000, 8)), 1)
    distance = (np.flatnonzero(table._slots[:, 2]) - table._home(table._slots[table._slots[:, 2] > 0, :2])) % len(
        table._slots
    )
    assert distance.mean() < 1 and distance.max() < 40


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecdistillError, match="gone.npy: missing from the store"):
        IdTable.opened(tmp_path / "gone.npy")
    assert IdTable(tmp_path / "gone.npy").restore(3) == 0
