"""Stochastic length: which histories are cut, to what, and that a budget is kept without cutting more than it must."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.batch.numbers import NUMBERS
from recdistill.distributed.ranks import Ranks
from recdistill.models.encoders.packed import sequences
from recdistill.models.encoders.stochastic_length import PERIOD, StochasticLength, kept_lengths
from tests.support.batches import make_batch, make_net
from tests.support.rank_processes import met

LENGTHS = st.lists(st.integers(0, 50), min_size=1, max_size=30)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 2**31 - 1), st.integers(0, 1_000))
def test_a_budget_is_kept_and_nothing_below_the_least(sizes: list[int], few: int, seed: int, budget: int) -> None:
    lengths, chances = torch.tensor(sizes), torch.rand(len(sizes), generator=torch.Generator().manual_seed(seed))
    plain, kept, least = (
        kept_lengths(lengths, few, chances),
        kept_lengths(lengths, few, chances, budget),
        lengths.clamp(max=few),
    )
    assert ((plain == least) | (plain == lengths)).all() and ((kept == least) | (kept == plain)).all()
    assert kept.sum() <= max(budget, least.sum())
    if plain.sum() <= budget:
        assert torch.equal(kept, plain)
    elif (
        budget >= least.sum()
    ):  # some of the lucky ones must be cut, and the first of the others would not fit any more
        assert kept.sum() < plain.sum()


def test_the_budget_is_for_the_luckiest() -> None:
    lengths, chances = torch.tensor([20, 20, 20, 3]), torch.tensor([0.2, 0.01, 0.1, 0.9])
    assert kept_lengths(lengths, 10, chances).tolist() == [20, 20, 20, 3]
    assert [kept_lengths(lengths, 10, chances, budget).tolist() for budget in (53, 52, 43, 33, 0)] == [
        [10, 20, 20, 3],
        [10, 20, 10, 3],
        [10, 20, 10, 3],
        [10, 10, 10, 3],
        [10, 10, 10, 3],
    ]


def test_the_long_ones_are_shortened_and_keep_their_order() -> None:
    """Of many draws, the share that stays whole is N^alpha / n^2, and every event is as likely to stay as another."""
    torch.manual_seed(0)
    long, short, draws = 16, 5, 2_000
    lengths = torch.tensor([long] * draws + [short] * 10)
    at, _ = sequences(
        lengths, torch.zeros(int(lengths.sum()), dtype=torch.int64), torch.zeros(int(lengths.sum()), dtype=torch.int64)
    )
    x = torch.arange(long).double().view(1, -1, 1).expand(len(lengths), -1, -1)
    fewer, kept = at.shortened(x, StochasticLength(1.5, 16)(at.lengths))  # N^(alpha / 2) = 8
    whole = (fewer.lengths[:draws] == long).double().mean()
    assert float(whole) == pytest.approx(64 / 256, abs=0.04) and set(fewer.lengths.tolist()) == {8, 16, 5}
    cut = fewer.lengths == 8
    assert (kept[cut, :8, 0].diff(dim=1) > 0).all() and not kept[cut, 8:].any()
    shares = torch.bincount(kept[cut, :8, 0].long().view(-1), minlength=long) / cut.sum()
    torch.testing.assert_close(shares, torch.full((long,), 0.5), atol=0.06, rtol=0)
    assert torch.equal(kept[-1, :5, 0], torch.arange(5.0).double())


def test_it_is_for_learning_alone() -> None:
    net, batch = make_net("hstu", stochastic=1.0), make_batch((2,), (9,))
    learned = {tuple(net(batch)[0].flatten().tolist()) for _ in range(8)}
    with torch.no_grad():
        predicted = {tuple(net(batch)[0].flatten().tolist()) for _ in range(3)}
    assert len(learned) > 1 and len(predicted) == 1


def test_the_direct_dot_sees_what_is_learned_from() -> None:
    """Whether 3 events or 9 of one kind are left, their mean and the length of the whole are the same, and
    so is the dot.
    """
    net, batch = make_net("hstu", stochastic=1.0).backbone, make_batch((2,), (9,))
    batch.history.index.fill_(1)
    batch.history.action.zero_()
    dots = torch.stack([net(batch)[:, -2 - NUMBERS] for _ in range(8)])
    torch.testing.assert_close(dots, dots[:1].expand_as(dots))
    other = make_batch((2,), (9,))
    dots = torch.stack([net(other)[:, -2 - NUMBERS] for _ in range(8)])
    assert dots.std(0).min() > 0


def test_after_a_warm_up_no_step_has_more_than_the_mean() -> None:
    torch.manual_seed(0)
    shorter = StochasticLength(1.0, 100, balanced=True)
    lengths = torch.randint(0, 100, (50,))
    loads = [int(shorter(lengths).sum()) for _ in range(3 * PERIOD)]
    first, later = loads[:PERIOD], loads[PERIOD : 2 * PERIOD]
    assert max(later) <= sum(first) / PERIOD < max(first)
    again = StochasticLength(1.0, 100, balanced=True)
    again.load_state_dict(shorter.state_dict())
    state = torch.get_rng_state()
    one = shorter(lengths)
    torch.set_rng_state(state)
    assert torch.equal(one, again(lengths))


def loads_of_two(ranks: Ranks) -> tuple[list[int], list[float]]:
    """Draw as one of two ranks, the second of which has longer histories; return what each had to learn from."""
    torch.manual_seed(ranks.rank)
    shorter, lengths = StochasticLength(1.0, 100, balanced=True), torch.full((40,), 15 if ranks.rank == 0 else 30)
    loads = [int(shorter(lengths).sum()) for _ in range(2 * PERIOD)]
    return loads, shorter.load.tolist()


def test_ranks_share_one_budget() -> None:
    (light, one), (heavy, other) = met(2, loads_of_two)
    budget = sum(light[:PERIOD] + heavy[:PERIOD]) / (2 * PERIOD)
    assert one == other and max(light[PERIOD:] + heavy[PERIOD:]) <= budget < max(heavy[:PERIOD])
