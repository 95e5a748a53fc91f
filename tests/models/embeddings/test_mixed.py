"""Tables of rows that are whole for the ids that come often."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recdistill.errors import UserError
from recdistill.models.embeddings.bounded import RowBudget
from recdistill.models.embeddings.budget import bound_tables
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.mixed import MixedTable


def mixed(most: int = 8, admit: int = 2) -> MixedTable:
    table = GrowableTable(6, seed=3, name="item", std=0.1, rate=0.1)
    return MixedTable(table, RowBudget(most, admit, narrow=2))


def learn(table: MixedTable, ids: list[int]) -> None:
    """Take a step on ids, of which each pulls its row to its own number."""
    asked = torch.tensor([0, *ids])
    (table(asked) - asked[:, None]).square().sum().backward()
    table.step()


def test_an_id_has_the_first_numbers_at_once_and_the_rest_when_it_came_often() -> None:
    table, ids = mixed(), torch.tensor([0, 5, 7])
    assert not table.peek(ids)[0].any() and table.peek(ids)[1:, :2].all() and not table.peek(ids)[:, 2:].any()
    learn(table, [5, 7])
    assert not table.peek(ids)[:, 2:].any() and table.numbers == 4
    learn(table, [5])
    assert table.peek(ids)[1].all() and not table.peek(ids)[2, 2:].any()
    assert table.facts()["held"] == 1 and table.numbers == 8 and table.seen(8).tolist() == [0, 0, 0, 0, 0, 2, 0, 1]


def test_its_parts_learn_as_tables_of_their_widths() -> None:
    table, narrow = mixed(admit=1), GrowableTable(2, seed=3, name="item", std=0.1, rate=0.1)
    rest = GrowableTable(4, seed=3, name="item+rest", std=0.1, rate=0.1)
    for ids in ([5, 7], [5], [7, 8]):
        learn(table, ids)
        for part in (narrow, rest):
            asked = torch.tensor([0, *ids])
            (part(asked) - asked[:, None]).square().sum().backward()
            part.step()
    met = torch.tensor([0, 5, 7, 8])
    assert torch.equal(table.peek(met), torch.cat((narrow.peek(met), rest.peek(met)), 1))
    table.set_rate(0.0)
    before = table.peek(met)
    learn(table, [5, 7, 8])
    assert torch.equal(table.peek(met), before)


def test_a_resumed_one_goes_on_alike() -> None:
    table, again = mixed(), mixed()
    for ids in ([5, 7], [5, 8]):
        learn(table, ids)
    again.load_state(table.state())
    for ids in ([7, 9], [9]):
        learn(table, ids)
        learn(again, ids)
    assert torch.equal(again.peek(torch.arange(12)), table.peek(torch.arange(12))) and again.facts() == table.facts()


def test_a_table_that_is_as_narrow_stays_and_none_may_freeze() -> None:
    network = nn.Sequential(*(GrowableTable(width, seed=0, name="a", std=0.1) for width in (2, 6)))
    bound_tables(network, RowBudget(8, narrow=2))
    plain, found = network
    assert type(plain) is GrowableTable and isinstance(found, MixedTable)
    for refused in (lambda: found.freeze(torch.tensor([1])), lambda: found.take_rows(torch.tensor([1]), torch.ones(6))):
        with pytest.raises(UserError, match="rows of mixed widths cannot"):
            refused()
