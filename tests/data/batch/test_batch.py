"""A batch's own arithmetic: looked-up columns, and histories laid out densely."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.batch.ages import SECOND, age_bucket
from recdistill.data.batch.batch import History, Lookup


def test_a_lookup_gives_its_column_back() -> None:
    found = Lookup(torch.tensor([0, 7, 3]), torch.tensor([[1, 2], [0, 1]]))
    assert found.ids().tolist() == [[7, 3], [0, 7]]
    assert found.to(torch.device("cpu")).ids().tolist() == [[7, 3], [0, 7]]


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=5))
def test_a_dense_history_is_left_aligned_and_masked(histories: list[list[int]]) -> None:
    flat = torch.tensor([event for each in histories for event in each], dtype=torch.int64)
    offsets = torch.tensor([0, *(len(each) for each in histories)]).cumsum(0)
    made = History(torch.arange(10), flat, (flat + 1) * SECOND, flat + 2, offsets, torch.arange(len(histories)))
    index, age, action, mask = made.dense()
    longest = max([1, *map(len, histories)])
    assert index.shape == mask.shape == (len(histories), longest)
    for row, each in enumerate(histories):
        assert index[row].tolist() == each + [0] * (longest - len(each)) and int(mask[row].sum()) == len(each)
    assert torch.equal(age[mask], age_bucket((flat + 1) * SECOND)) and torch.equal(action[mask], flat + 2)
    assert made.lengths.tolist() == list(map(len, histories))
