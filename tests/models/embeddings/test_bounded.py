"""Tables of a bounded number of rows: who has one, what it starts as, and that a resumed one goes on alike."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recdistill.errors import UserError
from recdistill.models.embeddings.bounded import BoundedTable, RowBudget
from recdistill.models.embeddings.budget import bound_tables
from recdistill.models.embeddings.growable import GrowableTable, Optimiser


def tables(most: int, admit: int = 1, optimiser: Optimiser = "adam") -> tuple[GrowableTable, BoundedTable]:
    """Return a table without a bound, and one that is bounded."""
    plain = [GrowableTable(4, seed=3, name="item", std=0.1, optimiser=optimiser, rate=0.1) for _ in range(2)]
    return plain[0], BoundedTable(plain[1], RowBudget(most, admit))


def learn(table: GrowableTable, *lookups: list[int]) -> None:
    """Take a step on ids, of which each pulls its row to its own number."""
    loss = torch.zeros(())
    for ids in lookups:
        unique = torch.tensor([0, *ids])
        loss = loss + (table(unique) - unique[:, None] / 50).square().sum()
    loss.backward()
    table.step()


steps = st.lists(st.lists(st.sets(st.integers(1, 30)).map(sorted), min_size=1, max_size=3), max_size=8)


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
@given(asked=steps)
def test_with_room_for_all_it_is_the_table_it_is_made_of(optimiser: Optimiser, asked: list[list[list[int]]]) -> None:
    """32 ids of 4 remainders have a place each."""
    plain, bounded = tables(32, optimiser=optimiser)
    for lookups in asked:
        learn(plain, *lookups)
        learn(bounded, *lookups)
    met = sorted({one for lookups in asked for ids in lookups for one in ids})
    ids = torch.tensor([0, *met])
    assert torch.equal(plain.peek(ids), bounded.peek(ids))
    assert torch.equal(bounded.seen(31)[ids], plain.seen(31)[ids])
    assert bounded.facts() == {"held": len(met), "admitted": len(met), "evicted": 0, "refused": 0}


def test_an_id_waits_for_its_row_and_reads_the_padding_meanwhile() -> None:
    plain, bounded = tables(8, admit=3)
    for _ in range(2):
        learn(bounded, [5], [5])  # two look-ups of one step are one sighting
        assert not bounded.peek(torch.tensor([5])).any() and bounded.seen(6).tolist() == [0, -1, -1, -1, -1, -1]
    learn(bounded, [5])
    learn(plain, [5])
    assert torch.equal(plain.peek(torch.tensor([5])), bounded.peek(torch.tensor([5])))
    assert bounded.seen(6).tolist() == [0, -1, -1, -1, -1, 1] and not bounded.peek(torch.tensor([0])).any()


def test_who_was_seen_longest_ago_gives_its_row_which_starts_anew() -> None:
    plain, bounded = tables(8)
    for one in range(1, 9):
        learn(bounded, [one])
    learn(bounded, [1])
    learn(bounded, [40])
    assert bounded.seen(9).tolist() == [0, 2, -1, 1, 1, 1, 1, 1, 1] and bounded.facts()["evicted"] == 1
    learn(plain, [40])
    assert torch.equal(bounded.peek(torch.tensor([40])), plain.peek(torch.tensor([40])))  # nothing of the old moments


def test_what_is_only_predicted_is_not_seen() -> None:
    _, bounded = tables(8, admit=2)
    learn(bounded, [1])
    with torch.no_grad():
        bounded(torch.tensor([0, 1]))
    bounded.eval()
    bounded(torch.tensor([0, 1]))
    assert bounded.facts()["held"] == 0 and int(bounded.sightings.max()) == 1


def test_of_more_ids_than_places_in_one_step_some_go_without_and_learn_nothing() -> None:
    _, bounded = tables(8)
    learn(bounded, list(range(1, 13)))
    assert bounded.facts() == {"held": 8, "admitted": 8, "evicted": 0, "refused": 4}
    assert not bounded.peek(torch.tensor([0, 9, 10, 11, 12])).any() and bounded.touched == 8


@given(asked=steps, cut=st.integers(0, 8), admit=st.integers(1, 3))
def test_a_resumed_table_goes_on_to_the_bit(asked: list[list[list[int]]], cut: int, admit: int) -> None:
    _, whole = tables(16, admit)
    _, first = tables(16, admit)
    _, second = tables(16, admit)
    for lookups in asked[:cut]:
        learn(whole, *lookups)
        learn(first, *lookups)
    learn(second, [2, 7])  # of which nothing is left
    second.load_state(first.state())
    for lookups in asked[cut:]:
        learn(whole, *lookups)
        learn(second, *lookups)
    ours, theirs = whole.state(), second.state()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.facts() == second.facts()


def test_memory_is_that_of_the_budget_whatever_ids_come() -> None:
    _, bounded = tables(16, admit=2)
    sizes = [len(bounded._weight), len(bounded.held.ids), len(bounded.waiting.ids), len(bounded.sightings)]
    for at in range(50):
        learn(bounded, list(range(10**9 + 7 * at, 10**9 + 7 * at + 9)))
    assert sizes == [len(bounded._weight), len(bounded.held.ids), len(bounded.waiting.ids), len(bounded.sightings)]
    assert sizes == [17, 16, 16, 16]


def test_every_table_of_a_network_is_bounded_and_none_of_them_may_freeze() -> None:
    network = nn.Sequential(nn.Sequential(tables(8)[0]), tables(8)[0])
    bound_tables(network, RowBudget(8))
    found = [part for part in network.modules() if isinstance(part, GrowableTable)]
    assert [type(one) for one in found] == [BoundedTable, BoundedTable]
    with pytest.raises(UserError, match="cannot be frozen"):
        found[0].freeze(torch.tensor([1]))
    with pytest.raises(UserError, match="cannot be taken over"):
        found[0].take_rows(torch.tensor([1]), torch.zeros(1, 4))
