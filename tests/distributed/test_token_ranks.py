"""A token mixer whose layers lie over ranks by tokens learns what it does in one process; which rows of a weight a rank
keeps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from recdistill.distributed.fsdp import Sharded
from recdistill.distributed.ranks import IN_FULL, Dense, Ranks
from recdistill.distributed.token_ranks import ONE, MixesTokens
from recdistill.models.backbones.token_mixer import TokenMixer
from tests.support.rank_processes import met

KINDS: dict[str, dict[str, Any]] = {  # 4 ranks, 2 to a layer: of 6 tokens 2 and 1, of 2 heads 1 and 0
    "large": {"tokens": 6, "heads": 2, "layers": 3, "between": True},
    "experts": {"tokens": 4, "heads": 2, "layers": 1, "experts": 2},
    "rankmixer": {"tokens": 2, "layers": 2, "variant": "rankmixer"},
}
ROWS, STEPS = 7, 2


def test_mixing_is_a_transposition_and_its_way_back() -> None:
    x = torch.arange(3 * 2 * 4.0).view(3, 2, 4)  # 3 tokens, 2 samples, 4 wide
    assert ONE.mixed(x, 2)[1, 0].tolist() == [*x[0, 0, 2:], *x[1, 0, 2:], *x[2, 0, 2:]]
    assert torch.equal(ONE.mixed(ONE.mixed(x, 2), 3), x)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_one_upon_the_other_the_ranks_have_all_tokens_once(tensor: int, copies: int, each: int) -> None:
    ranks = [Ranks(rank, tensor * copies, tensor=tensor) for rank in range(tensor * copies)]
    kept = [range(tensor * each)[one.chunk_of_tokens(tensor * each)] for one in ranks]
    assert [row for rows in kept for row in rows] == list(range(tensor * each))
    assert all(row // each == one.rank // copies for one, rows in zip(ranks, kept, strict=True) for row in rows)


def _learned(dense: Dense, kind: str) -> dict[str, Tensor]:
    """Return the states of a rank's rows, its share of every weight and of its gradient, after some steps."""

    def make() -> nn.Module:
        torch.manual_seed(0)
        return TokenMixer(5, width=4, **KINDS[kind])

    network, rows = dense.built(make), torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
    for _ in range(STEPS):
        optimiser.zero_grad()
        states = network(rows[dense.ranks.part(ROWS)])
        loss = states.square().sum() + sum(state.sin().sum() for state in network.passed)  # type: ignore[union-attr]
        torch.autograd.backward(loss)
        optimiser.step()
    of_rank = {name: dense.local(weight.detach()) for name, weight in network.named_parameters()}
    gradients = {
        f"{name}'": dense.local(weight.grad) for name, weight in network.named_parameters() if weight.grad is not None
    }
    return {"states": states.detach(), **of_rank, **gradients}


def _all_learned(ranks: Ranks) -> dict[str, dict[str, Any]]:
    """Return this for every kind, as lists, of one of two copies of two ranks each."""
    dense = Sharded(replace(ranks, tensor=2), torch.device("cpu"))
    return {kind: {name: value.tolist() for name, value in _learned(dense, kind).items()} for kind in KINDS}


@pytest.fixture(scope="module")
def by_rank() -> list[dict[str, dict[str, Any]]]:
    return met(4, _all_learned)


@pytest.mark.parametrize("kind", KINDS)
def test_two_copies_of_two_ranks_to_a_layer_learn_what_one_process_does(
    by_rank: list[dict[str, dict[str, Any]]], kind: str
) -> None:
    """Rows are 1, 2, 2 and 2 of the ranks; shares of the ranks, one upon the other, are the whole."""
    for name, value in _learned(IN_FULL, kind).items():
        shares = [torch.tensor(found[kind][name]).view(-1, *value.shape[1:]) for found in by_rank]
        torch.testing.assert_close(torch.cat(shares), value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_mixer_has_all_tokens_by_itself() -> None:
    mixer = TokenMixer(5, width=4, **KINDS["large"])
    assert isinstance(mixer, MixesTokens) and mixer.over is ONE and not isinstance(nn.Linear(1, 1), MixesTokens)
