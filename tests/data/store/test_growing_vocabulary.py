"""A stream's vocabulary against that of a whole log, and against itself after a restart."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.growing_vocabulary import GrowingVocabulary
from recdistill.data.store.vocabulary import Vocabulary

VALUES = st.lists(st.none() | st.text(max_size=3) | st.sampled_from(["a", "b", "\n", '"', "ä"]), max_size=30)


def series(values: list[str | None]) -> pl.Series:
    """Return text."""
    return pl.Series(values, dtype=pl.String)


@settings(max_examples=50, deadline=None)
@given(VALUES, VALUES, VALUES)
def test_it_goes_on_from_the_batch_phase_and_from_a_checkpoint(
    before: list[str | None], saved: list[str | None], later: list[str | None]
) -> None:
    whole = Vocabulary()
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole.encode(series(before), grow=True)
        whole.save(folder / "users.parquet")
        based = len(whole)
        live = GrowingVocabulary(folder / "live", "users", folder / "users.parquet", based)
        assert live.encode(series(saved), grow=True).tolist() == whole.encode(series(saved), grow=True).tolist()
        count, size = len(live), live.save()
        assert count == len(whole) and live.ids(based) == whole.ids[based:].to_list()
        live.encode(series([*(later or [""]), "lost"]), grow=True)  # then killed, once with these ids on disk
        live.save()
        again = GrowingVocabulary(folder / "live", "users", folder / "users.parquet", based)
        assert again.restore(count, size) and again.ids(based) == whole.ids[based:].to_list()
        assert again.encode(series(later), grow=False).tolist() == whole.encode(series(later), grow=False).tolist()
        assert again.encode(series(later), grow=True).tolist() == whole.encode(series(later), grow=True).tolist()
        again.save()
        assert again.ids(based) == whole.ids[based:].to_list() and len(again) == len(whole)


def test_a_lost_table_is_made_again_of_the_ids_and_lost_ids_are_noticed(tmp_path: Path) -> None:
    live = GrowingVocabulary(tmp_path, "items")
    live.encode(series(["b", "a", None, "b", "c"]), grow=True)
    size = live.save()
    (tmp_path / "items.ids.npy").unlink()
    again = GrowingVocabulary(tmp_path, "items")
    assert again.restore(3, size) and again.encode(series(["c", "b", "x", None]), grow=False).tolist() == [3, 1, 0, 0]
    (tmp_path / "items.jsonl").write_text('"b"\n')
    assert not GrowingVocabulary(tmp_path, "items").restore(3, size)
    (tmp_path / "items.jsonl").unlink()
    assert not GrowingVocabulary(tmp_path, "items").restore(3, size)
    assert GrowingVocabulary(tmp_path, "items").restore(0, 0)


@pytest.mark.parametrize("values", [[3, None, -(2**63), 3, 2**63 - 1, 0], ["3", None, "x"]])
def test_numbers_and_text_are_numbered_as_they_come(tmp_path: Path, values: list[object]) -> None:
    live = GrowingVocabulary(tmp_path, "users")
    order = list(dict.fromkeys(value for value in values if value is not None))
    want = [0 if value is None else 1 + order.index(value) for value in values]
    assert live.encode(pl.Series(values), grow=True).tolist() == want
    assert live.ids(0) == order and live.ids(1) == order[1:]
