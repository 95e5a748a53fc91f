"""Ids and their values against a set and a dictionary, however they are cut; old runs are forgotten."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.store.id_set import IdMap, IdSet

PARTS = st.lists(st.lists(st.integers(-50, 50), max_size=30), max_size=8)
ASKED = st.lists(st.integers(-60, 60), max_size=20)


def largest(known: IdMap, ids: list[int]) -> list[float]:
    """Return the largest value of each id over all runs, -1 where there is none."""
    found = np.full(len(ids), -1.0)
    for at, values in known.find(np.array(ids, np.int64)):
        found[at] = np.maximum(found[at], values)
    return found.tolist()


@given(PARTS, ASKED)
def test_a_set_of_ids(parts: list[list[int]], asked: list[int]) -> None:
    ids, want = IdSet(), set[int]()
    for part in parts:
        ids.add(np.array(part, np.int64))
        want.update(part)
    assert ids.holds(np.array(asked, np.int64)).tolist() == [key in want for key in asked]


@given(PARTS, ASKED, st.sampled_from([None, 0, 10]), st.integers(0, 7))
def test_each_id_has_its_largest_value_until_its_run_is_forgotten(
    parts: list[list[int]], asked: list[int], max_merged: int | None, mark: int
) -> None:
    known = IdMap(max_merged)
    for number, part in enumerate(parts):
        ids = np.array(part, np.int64)
        known.add(ids, (ids * 7 + number) % 5.0, mark=number)
    pairs = [(key, (key * 7 + number) % 5.0, number) for number, part in enumerate(parts) for key in part]
    assert largest(known, asked) == [max((v for k, v, _ in pairs if k == key), default=-1) for key in asked]
    assert known.holds(np.array(asked, np.int64)).tolist() == [key in {k for k, _, _ in pairs} for key in asked]
    known.forget(mark)
    newer = [max((v for k, v, number in pairs if k == key and number > mark), default=-1) for key in asked]
    if max_merged == 0:  # every part is a run of its own
        assert largest(known, asked) == newer
    else:
        assert all(have >= want for have, want in zip(largest(known, asked), newer, strict=True))


def test_runs_are_few_and_an_id_stands_once_in_each() -> None:
    known = IdMap()
    for k in range(1000):
        known.add(np.array([k % 10]), np.array([k]))
    assert len(known) <= 30 and largest(known, [3, 10]) == [993, -1]
    unsigned = np.array([2**64 - 1, 2**63], np.uint64)  # as hashes are
    ids = IdSet()
    ids.add(unsigned)
    assert ids.holds(np.append(unsigned, np.uint64(5))).tolist() == [True, True, False]
