"""Samples that arrived recently: found by id with the code of their labels, forgotten by event time."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.stream.ingest.dedupe import Recent, label_codes


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(-50, 50), max_size=20), max_size=12), st.lists(st.integers(-60, 60), max_size=30))
def test_ids_are_found_as_in_a_dictionary(groups: list[list[int]], wanted: list[int]) -> None:
    recent, want = Recent(1000), dict[int, int]()
    for group in groups:
        new = np.array(sorted(set(group) - want.keys()), np.int64)
        want |= {int(k): int(abs(k)) for k in new}
        recent.add(new, np.abs(new) * 7, np.abs(new).astype(np.int16))
    assert recent.find(np.array(wanted, np.int64)).tolist() == [want.get(k, -1) for k in wanted]


def test_codes_differ_where_labels_do() -> None:
    rows = pl.DataFrame(
        {"label_a": [0.0, 1.0, None, 1.0], "label_b": [1.0, 0.0, 1.0, None]}, schema_overrides={"label_a": pl.Float32}
    )
    assert len(set(label_codes(rows, ("a", "b")).tolist())) == 4


def test_soft_labels_differ_by_their_value() -> None:
    values = [0.0, 0.25, 0.5, 0.75, 1.0, 0.25]
    codes = label_codes(pl.DataFrame({"label_a": values}, schema_overrides={"label_a": pl.Float32}), ("a",)).tolist()
    assert len(set(codes)) == 5 and codes[1] == codes[5]


def test_what_lies_behind_the_bound_is_forgotten_and_nothing_within_it() -> None:
    recent = Recent(800)
    ids = np.arange(2000)
    recent.add(ids, ids, np.ones(2000, np.int16))
    recent.forget(2000)
    assert (recent.find(ids[1200:]) == 1).all() and (recent.find(ids[:1100]) == -1).all() and len(recent) <= 900
