"""How a step's rows and a weight's rows are divided over ranks, and what one rank alone does."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recdistill.distributed.ranks import ALONE, IN_FULL, InFull, Ranks

SIZES = st.integers(1, 9)


@given(st.integers(0, 100), SIZES)
def test_parts_of_a_step_cover_its_rows_once_and_evenly(rows: int, size: int) -> None:
    parts = [Ranks(rank, size).part(rows) for rank in range(size)]
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    counts = [len(range(rows)[part]) for part in parts]
    assert max(counts) - min(counts) <= 1


@given(st.integers(0, 100), SIZES)
def test_chunks_are_those_that_torch_cuts(rows: int, size: int) -> None:
    chunks = [torch.arange(rows)[Ranks(rank, size).chunk(rows)].tolist() for rank in range(size)]
    cut = [part.tolist() for part in torch.arange(rows).chunk(size)] if rows else []
    assert [part for part in chunks if part] == cut


def test_a_rank_alone_changes_nothing() -> None:
    one, values = torch.tensor([1.0, 2.0]), np.array([1.5, -0.0])
    ALONE.sum_in_place([one])
    ALONE.wait()
    assert one.tolist() == [1.0, 2.0]
    assert ALONE.merged(values) is values
    assert ALONE.gather(7) == [7]


def test_the_first_rank_writes_what_all_hold() -> None:
    state = {"network/weight": torch.zeros(2)}
    assert InFull(Ranks(0, 2)).mine(state) is state
    assert InFull(Ranks(1, 2)).mine(state) == {}


def test_a_whole_state_is_read_but_for_what_is_not_dense() -> None:
    stored = {"network/a": torch.ones(2), "optimiser/0/exp_avg": torch.ones(1), "table/item/rows": torch.ones(3)}
    assert list(IN_FULL.shares(nn.Linear(1, 1), stored)) == ["network/a", "optimiser/0/exp_avg"]
