from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.models.embeddings.growable import Drawn, GrowableTable, initial_rows


def table(optimiser: str = "adam", width: int = 4, std: float = 0.1) -> GrowableTable:
    return GrowableTable(width, seed=1, name="t", std=std, optimiser=optimiser, rate=0.05)  # type: ignore[arg-type]


def rows(*ids: int) -> torch.Tensor:
    return torch.tensor(ids, dtype=torch.int64)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20, unique=True), st.integers(1, 9), st.integers(0, 99))
def test_first_values_do_not_depend_on_what_is_drawn_together(ids: list[int], width: int, seed: int) -> None:
    together = initial_rows(seed, "x", rows(*ids), width, 0.1)
    alone = torch.cat([initial_rows(seed, "x", rows(i), width, 0.1) for i in ids])
    assert torch.equal(together, alone)


def test_first_values_look_random() -> None:
    ids = torch.arange(1, 20001)
    drawn = initial_rows(0, "x", ids, 8, 0.5)
    assert abs(float(drawn.mean())) < 0.005 and abs(float(drawn.std()) - 0.5) < 0.005
    correlation = torch.corrcoef(drawn.T) - torch.eye(8)
    assert correlation.abs().max() < 0.03
    for other in (initial_rows(1, "x", ids, 8, 0.5), initial_rows(0, "y", ids, 8, 0.5), drawn.roll(1, 0)):
        assert abs(float((drawn * other).mean())) < 0.005


def test_growth_changes_nothing() -> None:
    a, b = table(), table()
    first = a(rows(0, 5, 9))
    late = a(rows(0, 70_000))
    b(rows(0, 70_000))
    assert torch.equal(b(rows(0, 5, 9)), first) and torch.equal(b(rows(0, 70_000)), late)


def test_adam_is_torchs_adam_when_every_step_touches_every_row() -> None:
    mine, ids = table(), rows(0, 1, 2, 3)
    with torch.no_grad():
        theirs = torch.nn.Parameter(mine(ids)[1:].clone())
    optimiser = torch.optim.Adam([theirs], lr=0.05)
    for step in range(1, 6):
        weights = torch.arange(12.0).view(3, 4) - step
        optimiser.zero_grad()
        (theirs.sin() * weights).sum().backward()
        optimiser.step()
        (mine(ids)[1:].sin() * weights).sum().backward()
        mine.step()
    torch.testing.assert_close(mine(ids)[1:].detach(), theirs.detach())


def test_a_row_learns_by_its_own_steps_alone() -> None:
    """Row 7, touched at steps 1 and 5, ends where it ends when steps 2 to 4 never happened."""
    busy, quiet = table(), table()
    for step in range(5):
        for each in (busy, quiet):
            if each is busy or step in (0, 4):
                seven = step in (0, 4)
                looked = each(rows(0, 7, 8) if seven else rows(0, 8))
                (looked[1:] * (step + 1.0)).sum().backward()
                each.step()
    assert torch.equal(busy(rows(0, 7)), quiet(rows(0, 7)))


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
def test_several_lookups_are_summed(optimiser: str) -> None:
    one, two = table(optimiser), table(optimiser)
    for _ in range(3):
        joint = one(rows(0, 3, 4, 9))
        (joint[1] * 2 + joint[2] * 5 + joint[3] * -1).sum().backward()
        a, b = two(rows(0, 4, 3)), two(rows(0, 9, 4))
        (a[1] * 2 + a[2] * 2 + b[1] * -1 + b[2] * 3).sum().backward()
        one.step()
        two.step()
    torch.testing.assert_close(one(rows(0, 3, 4, 9)), two(rows(0, 3, 4, 9)))
    assert two.touched == 3


def test_rowwise_adagrad_formula() -> None:
    mine = table("rowwise-adagrad")
    start = mine(rows(0, 2))
    gradient = torch.tensor([1.0, 2.0, -2.0, 4.0])
    (start[1] * gradient).sum().backward()
    expected = start[1].detach() - 0.05 * gradient / gradient.square().mean().sqrt()
    mine.step()
    torch.testing.assert_close(mine(rows(0, 2))[1].detach(), expected)


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
def test_padding_row_stays_zero(optimiser: str) -> None:
    mine = table(optimiser)
    (mine(rows(0, 1)) + mine(rows(0, 2))).sum().backward()
    mine.step()
    assert not mine(rows(0)).any() and mine(rows(0, 1)).any()


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
def test_state_holds_learned_rows_only_and_resumes_bit_for_bit(optimiser: str) -> None:
    mine, other = table(optimiser), table(optimiser)
    mine(rows(0, 5000))  # looked at, never learned from
    mine.clear()
    for each in (mine, other):
        each(rows(0, 3, 4)).sum().backward()
        each.step()
    state = mine.state()
    assert state["rows"].tolist() == [3, 4]
    other(rows(0, 77)).sum().backward()
    other.step()
    other.load_state(state)
    for each in (mine, other):
        each(rows(0, 4, 77)).square().sum().backward()
        each.step()
    assert torch.equal(mine(rows(0, 3, 4, 77, 5000)), other(rows(0, 3, 4, 77, 5000)))


def test_adams_factors_reach_as_far_as_a_row_has_steps() -> None:
    ours = table()
    short = [factor[:1000].clone() for factor in ours._factors(1)]
    long = ours._factors(0), ours._factors(123_456)
    count = torch.tensor([1.0, 123_456.0], dtype=torch.float64)
    root = (1 - 0.999**count).sqrt()
    torch.testing.assert_close(long[1][0][count.long()], (-ours.rate * root / (1 - 0.9**count)).float())
    torch.testing.assert_close(long[1][1][count.long()], (1e-8 * root).float())
    for factors in long:
        assert all(torch.equal(a, b[:1000]) for a, b in zip(short, factors, strict=True))


def test_no_gradient_no_leaf_when_not_training() -> None:
    mine = table()
    with torch.no_grad():
        assert not mine(rows(0, 1)).requires_grad
    mine.eval()
    assert not mine(rows(0, 1)).requires_grad
    mine.step()
    assert mine.touched == 0


def test_rows_that_learn_decay_as_in_adamw() -> None:
    table = GrowableTable(3, seed=0, name="t", std=0.5, rate=0.1)
    rows = torch.tensor([0, 4, 7])
    weight = torch.nn.Parameter(table.peek(rows)[1:].clone())
    other, plain = table.peek(torch.tensor([9])), torch.optim.AdamW([weight], lr=0.1, weight_decay=0.3)
    table.set_rate(0.1, 0.3)
    for _ in range(3):
        table(rows).square().sum().backward()
        table.step()
        plain.zero_grad()
        weight.square().sum().backward()
        plain.step()
    torch.testing.assert_close(table.peek(rows)[1:], weight.detach())
    assert torch.equal(table.peek(torch.tensor([9])), other)


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
def test_rows_that_were_taken_over_stay_frozen_until_they_thaw(optimiser: str) -> None:
    mine, ids, values = table(optimiser), rows(0, 1, 2), torch.tensor([[5.0, 6, 7, 8], [1, 2, 3, 4]])
    mine(ids).sum().backward()
    mine.step()
    mine.take_rows(rows(2, 3), values)
    mine.freeze(rows(2, 3))
    other = table(optimiser)
    other.load_state(mine.state())
    for one in (mine, other):
        one(rows(0, 1, 2, 3)).sum().backward()
        one.step()
        assert torch.equal(one.peek(rows(2, 3)), values)
        one.thaw()
        before = one.peek(rows(2, 3))
        one(rows(0, 2, 3)).sum().backward()
        one.step()
        change = (before - one.peek(rows(2, 3))) / one.rate
        assert bool((change > 0.5).all()) and bool((change <= 1.001).all())  # no step longer than the rate
    assert all(torch.equal(mine.state()[key], value) for key, value in other.state().items())


def test_seen_counts_the_steps_that_learned_from_a_row() -> None:
    grown = table()
    for ids in (rows(0, 3), rows(0, 3, 5)):
        grown(ids).sum().backward()
        grown.step()
    grown(rows(0, 7))
    assert grown.seen(9).tolist() == [0, 0, 0, 2, 0, 1, 0, 0, 0]
    assert grown.seen(5000).sum() == 3 and grown.seen(4).tolist() == [0, 0, 0, 2]


def test_columns_that_come_back_again_and_again_leave_no_block_behind() -> None:
    drawn, every, ids = Drawn((("t", 4, 0.1),)), list[tuple[str, int]](), torch.arange(50)
    for cycle in range(20):
        kept = rows(0, 1) if cycle else rows(0, 3)  # then a column of the block before stays for a while
        drawn = drawn.picked(kept, None, False, 0.1).picked(rows(0, 1, -1, -1), None, False, 0.1)
        assert len(drawn.blocks) == 2 and drawn == Drawn.of(asdict(drawn))
        every.append(drawn.blocks[-1][:2])
    assert every == [(f"t+{cycle + 1}", 2) for cycle in range(20)]  # no two are drawn alike
    first, last = (initial_rows(1, name, ids, width, 0.1) for name, width in (("t", 4), ("t+20", 2)))
    assert torch.equal(drawn.rows(1, ids), torch.cat((first[:, [0, 3]], last), 1))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 9), min_size=1, max_size=6), min_size=1, max_size=6))
def test_new_rows_are_what_the_columns_of_the_rows_were(steps: list[list[int]]) -> None:
    drawn, ids = Drawn((("t", 4, 0.1),)), torch.arange(9)
    found = drawn.rows(1, ids)
    for step, asked in enumerate(steps):
        columns = torch.tensor([min(one, found.shape[1] - 1) for one in asked])
        drawn = drawn.picked(columns, None, step % 2 == 1, 0.1)
        now, old = drawn.rows(1, ids), columns >= 0
        assert torch.equal(now[:, old], found[:, columns[old]])
        assert bool(now[1:, ~old].any()) == (bool((~old).any()) and step % 2 == 0)
        assert len(drawn.blocks) <= 1 + len(asked)
        found = now


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
def test_of_one_column_it_grows_to_two(optimiser: str) -> None:
    one, two = table(optimiser, 1), table(optimiser, 2)
    one(rows(0, 3)).sum().backward()
    one.step()
    two.take_columns(one, rows(0, -1), None, zero=False)
    assert torch.equal(two.peek(rows(3))[:, 0], one.peek(rows(3))[:, 0]) and bool(two.peek(rows(3))[:, 1].any())
    assert torch.equal(two.state()["second"], one.state()["second"].expand(1, 2 if optimiser == "adam" else 1))
    two(rows(0, 3)).sum().backward()
    two.step()
    assert two.state()["steps"].tolist() == [2]
