"""A table of which few rows lie on the device learns what the host's table does, whatever comes and goes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.models.embeddings.cached import CachedTable
from tests.support.pretended_device import Elsewhere, another_device
from tests.support.table_steps import TABLES, Steps, agree, learned, table

HERE = torch.device("cpu")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.integers(1, 9), min_size=1, unique=True), min_size=1, max_size=3), min_size=1, max_size=6
    ),
    st.sampled_from(TABLES),
    st.integers(0, 12),
)
def test_any_lookups_learn_what_the_hosts_table_learns(steps: Steps, kind: str, most: int) -> None:
    agree(learned(CachedTable(table(kind), HERE, most), kind, steps), learned(table(kind), kind, steps))


@pytest.mark.parametrize("kind", TABLES)
def test_rows_come_and_go_from_a_device(kind: str) -> None:
    host = learned(table(kind), kind)
    with another_device() as device:
        far = CachedTable(table(kind), device, 4)
        found = learned(far, kind)
        assert isinstance(far._weight, Elsewhere) and not isinstance(far.host._weight, Elsewhere)
        assert not any(isinstance(value, Elsewhere) for value in found.values())
    agree(found, host)


@pytest.mark.parametrize("kind", TABLES)
def test_a_run_goes_on_with_either(kind: str) -> None:
    steps: Steps = [[[1, 2, 700]], [[2, 3], [3, 1]], [[700, 3]]]
    whole = learned(table(kind), kind, steps)
    for first, then in (
        (table(kind), CachedTable(table(kind), HERE, 2)),
        (CachedTable(table(kind), HERE, 2), table(kind)),
    ):
        then.load_state(learned(first, kind, steps[:2]))
        agree(learned(then, kind, steps, begin=2), whole)


def test_rows_that_are_looked_up_again_stay() -> None:
    """Also through steps that do without them."""
    one, often = CachedTable(table("adam"), HERE, 4), [[1, 2]]
    learned(one, "adam", [often, *(step for row in range(20) for step in (often, [[10 + row]]))])
    assert one.brought == 2 + 20 and one.places == 4


def test_what_is_not_learned_from_makes_no_room() -> None:
    one = CachedTable(table("adam"), HERE, 4)
    with torch.no_grad():
        for step in range(30):
            assert torch.equal(
                one(torch.tensor([0, 3 * step + 1, 3 * step + 2])),
                table("adam").peek(torch.tensor([0, 3 * step + 1, 3 * step + 2])),
            )
    assert one.places == 4 and one.brought == 60


def test_a_step_that_looks_up_more_makes_room() -> None:
    one = CachedTable(table("adam"), HERE, 4)
    agree(learned(one, "adam", [[[1, 2, 3], [4, 5, 6]]]), learned(table("adam"), "adam", [[[1, 2, 3], [4, 5, 6]]]))
    assert one.places >= 6


def test_rows_are_peeked_counted_and_taken_as_they_are_by_now() -> None:
    one, host = CachedTable(table("adam"), HERE, 2), table("adam")
    values, ids = torch.randn(2, host.width), torch.tensor([0, 5, 2, 5000])
    for each in (one, host):
        learned(each, "adam", [[[1, 2]], [[2, 5]]])
        each.take_rows(torch.tensor([2, 7]), values)
        each.update(torch.tensor([1, 7]), torch.ones(2, host.width))
    torch.testing.assert_close(one.peek(ids), host.peek(ids))
    assert one.touched == host.touched and one.seen(9).tolist() == host.seen(9).tolist()
    agree(one.state(), host.state())
