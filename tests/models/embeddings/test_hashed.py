"""Tables whose rows ids share by their remainder."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recdistill.errors import UserError
from recdistill.models.embeddings.bounded import RowBudget, bound_tables
from recdistill.models.embeddings.growable import GrowableTable, Optimiser
from recdistill.models.embeddings.hashed import HashedTable, shared_row


def plain(optimiser: Optimiser = "adam") -> GrowableTable:
    return GrowableTable(4, seed=3, name="item", std=0.1, optimiser=optimiser, rate=0.1)


def learn(table: GrowableTable, *lookups: list[int], renamed: int = 0) -> None:
    """Take a step on ids, of which each pulls its row to its own number; renamed: their rows' numbers are looked up."""
    loss = torch.zeros(())
    for ids in lookups:
        asked = torch.tensor([0, *ids])
        rows, place = torch.unique(shared_row(asked, renamed) if renamed else asked, return_inverse=True)
        loss = loss + (table(rows)[place] - asked[:, None] / 50).square().sum()
    loss.backward()
    table.step()


steps = st.lists(st.lists(st.sets(st.integers(1, 30)).map(sorted), min_size=1, max_size=3), max_size=8)


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
@given(asked=steps, most=st.integers(8, 40))
def test_it_is_a_table_whose_ids_were_renamed(optimiser: Optimiser, asked: list[list[list[int]]], most: int) -> None:
    hashed, other = HashedTable(plain(optimiser), most), plain(optimiser)
    for lookups in asked:
        learn(hashed, *lookups)
        learn(other, *lookups, renamed=most)
    ids = torch.arange(31)
    assert torch.allclose(hashed.peek(ids), other.peek(shared_row(ids, most)), atol=1e-6)
    assert torch.equal(hashed.seen(31), other.seen(most + 1)[shared_row(ids, most)]) and hashed.touched <= most
    again = HashedTable(plain(optimiser), most)
    again.load_state(hashed.state())
    learn(again, [3, 29])
    learn(hashed, [3, 29])
    assert torch.equal(again.peek(ids), hashed.peek(ids))


def test_the_padding_shares_nothing_and_the_first_ids_have_a_row_each() -> None:
    assert shared_row(torch.arange(10), 4).tolist() == [0, 1, 2, 3, 4, 1, 2, 3, 4, 1]


def test_a_budget_may_ask_for_it_and_none_of_its_rows_may_freeze() -> None:
    network = nn.Sequential(plain())
    bound_tables(network, RowBudget(8, shared=True))
    (found,) = [part for part in network.modules() if isinstance(part, GrowableTable)]
    assert type(found) is HashedTable and found.most == 8
    for refused in (lambda: found.freeze(torch.tensor([1])), lambda: found.take_rows(torch.tensor([1]), torch.ones(4))):
        with pytest.raises(UserError, match="rows that ids share cannot"):
            refused()
