"""Slices by a context field, by the length of the history, or one for all."""

from __future__ import annotations

import pytest
import torch

from recdistill.data.batch.slicer import SLICES, Slicer
from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema
from tests.support.batches import make_batch

SCHEMA = EventSchema(("click",), {"device": "int64", "tags": "list<string>", "price": "float32"})


def test_a_feature_gives_its_own_code_and_many_values_share() -> None:
    slicer, context = Slicer.of("price", SCHEMA), torch.tensor([[1, 2, 3], [1, 2, SLICES + 3], [4, 5, 6]])
    assert slicer.field == 2 and slicer.codes(context, torch.zeros(3)).tolist() == [3, 3, 6]


def test_lengths_of_history_double_from_slice_to_slice() -> None:
    lengths = torch.tensor([0, 1, 2, 3, 4, 7, 8, 2**62])
    found = Slicer.of("history", SCHEMA).codes(torch.zeros(8, 3), lengths)
    assert found.tolist() == [0, 1, 2, 2, 3, 3, 4, 63]


def test_nothing_makes_one_slice_and_a_batch_is_sliced_by_its_histories() -> None:
    batch = make_batch((3, 1, 2), (4, 0, 9))
    assert Slicer.of(None, SCHEMA).of_batch(batch).tolist() == [0] * 6
    assert Slicer.of("history", SCHEMA).of_batch(batch).tolist() == [3, 3, 3, 0, 4, 4]


def test_a_name_that_is_no_field_is_refused() -> None:
    with pytest.raises(UserError, match="^distill.gate.by: no feature 'devise'; did you mean 'device'"):
        Slicer.of("devise", SCHEMA)
    with pytest.raises(UserError, match="^domain: no feature 'tags'"):  # a list is no field
        Slicer.of("tags", SCHEMA, "domain")
