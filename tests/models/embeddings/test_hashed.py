"""Tables whose rows ids share by their remainder."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recdistill.errors import UserError
from recdistill.models.embeddings.bounded import RowBudget, Share
from recdistill.models.embeddings.budget import bound_tables
from recdistill.models.embeddings.growable import GrowableTable, Optimiser
from recdistill.models.embeddings.hashed import HashedTable, QuotientTable
from recdistill.models.embeddings.modulo import Modulo


def shared_row(ids: torch.Tensor, most: int) -> torch.Tensor:
    return Modulo(most).rows(ids)


def shared_quotient(ids: torch.Tensor, most: int, quotients: int) -> torch.Tensor:
    return Modulo(quotients, most).rows(ids)


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


def learn_whole(table: GrowableTable, *lookups: list[int]) -> None:
    """Take a step on ids, each lookup's its own."""
    for ids in lookups:
        asked = torch.tensor([0, *ids])
        (table(asked) - asked[:, None] / 50).square().sum().backward()
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


@pytest.mark.parametrize(
    ("share", "kind", "most"), [("remainder", HashedTable, 8), ("quotient-remainder", QuotientTable, 7)]
)
def test_a_budget_may_ask_for_it_and_none_of_its_rows_may_freeze(share: Share, kind: type, most: int) -> None:
    network = nn.Sequential(plain())
    bound_tables(network, RowBudget(8, share=share))
    (found,) = [part for part in network.modules() if isinstance(part, GrowableTable)]
    assert type(found) is kind and found.most == most
    for refused in (lambda: found.freeze(torch.tensor([1])), lambda: found.take_rows(torch.tensor([1]), torch.ones(4))):
        with pytest.raises(UserError, match="rows that ids share cannot"):
            refused()


@given(asked=steps, rows=st.integers(8, 40), ids=st.sets(st.integers(1, 400), min_size=1))
def test_a_row_is_that_of_its_remainder_times_that_of_its_quotient(
    asked: list[list[list[int]]], rows: int, ids: set[int]
) -> None:
    """The reference are two dense matrices that every id picks from."""
    table, most, quotients = QuotientTable(plain(), rows), rows - rows // 8, rows // 8
    for lookups in asked:
        learn_whole(table, *lookups)
    unique = torch.tensor([0, *sorted(ids)])
    at = shared_row(unique, most), shared_quotient(unique, most, quotients)
    dense = [
        nn.Parameter(part.peek(torch.arange(n + 1)))
        for part, n in zip(table.parts.values(), (most, quotients), strict=True)
    ]
    found, wanted = table(unique), dense[0][at[0]] * dense[1][at[1]]
    assert torch.allclose(found, wanted)
    for rows_of in (found, wanted):
        (rows_of - unique[:, None] / 50).square().sum().backward()
    for gradient, part, used in zip(table.gradients(), dense, at, strict=True):
        assert part.grad is not None and torch.allclose(gradient, part.grad[used.unique()], rtol=1e-4, atol=1e-5)


def test_ids_of_one_remainder_begin_alike_and_part() -> None:
    table = QuotientTable(plain(), 16)
    same = torch.tensor([3, 17, 31])
    assert shared_row(same, 14).tolist() == [3, 3, 3] and shared_quotient(same, 14, 2).tolist() == [1, 2, 1]
    assert torch.equal(table.peek(same), plain().peek(torch.tensor([3, 3, 3])))
    table(torch.tensor([0, 3, 17]))[1:].mul(torch.tensor([[1.0], [-1.0]])).sum().backward()
    table.step()
    one, other, wrapped = table.peek(same)
    assert not torch.equal(one, other) and torch.equal(one, wrapped)
    assert table.touched == 3 and table.numbers == 12


@pytest.mark.parametrize("ids", [0, 1, 13, 14, 15, 28, 29, 100])
def test_what_is_stored_is_what_the_first_ids_read(ids: int) -> None:
    table = QuotientTable(plain(), 16)
    (own, most), (times, quotients) = table.stored(ids + 1).values()
    asked = torch.arange(ids + 1)
    rows = own.peek(shared_row(asked, most - 1)) * times.peek(shared_quotient(asked, most - 1, quotients - 1))
    assert torch.equal(rows, table.peek(asked)) and most <= 15 and quotients <= 3


def test_a_resumed_table_of_quotients_learns_the_same() -> None:
    table, again = QuotientTable(plain(), 16), QuotientTable(plain(), 16)
    learn_whole(table, [3, 17], [29])
    again.load_state(table.state())
    learn_whole(again, [3, 18])
    learn_whole(table, [3, 18])
    assert torch.equal(again.peek(torch.arange(60)), table.peek(torch.arange(60)))


def test_only_a_network_that_trains_learns() -> None:
    network = nn.Sequential(QuotientTable(plain(), 16))
    network.eval()
    (table,) = network
    assert isinstance(table, QuotientTable)
    table(torch.tensor([0, 3]))
    assert not table.leaves()
    network.train()
    table(torch.tensor([0, 3]))
    assert len(table.leaves()) == 2
    table.clear()
    assert not table.leaves()
