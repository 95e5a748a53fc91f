"""Different values are counted exactly while they are few, and nearly so when they are many, in any cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.evaluate.distinct import LIMIT, Distinct


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), max_size=5))
def test_few_are_counted_exactly_in_any_cut(parts: list[list[int]]) -> None:
    counted = Distinct()
    for part in parts:
        counted.add(np.array(part, np.int64))
    assert counted.count() == len({value for part in parts for value in part})


@pytest.mark.parametrize("many", [LIMIT - 1, LIMIT + 1, 300_000])
def test_many_are_estimated_within_four_standard_errors(many: int) -> None:
    counted = Distinct()
    for part in np.array_split(np.arange(many), 7):
        counted.add(np.concatenate((part, part[::-1])))
    assert abs(counted.count() / many - 1) < (0 if many < LIMIT else 4 / np.sqrt(LIMIT)) + 1e-12
