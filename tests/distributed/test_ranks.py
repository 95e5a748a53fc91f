"""How a step's rows and a weight's rows are divided over ranks, and what one rank alone does."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recdistill.distributed.fsdp import Sharded
from recdistill.distributed.ranks import ALONE, IN_FULL, InFull, Ranks
from tests.support.rank_processes import met

SIZES = st.integers(1, 9)


@given(st.integers(0, 100), SIZES)
def test_parts_of_a_step_cover_its_rows_once_and_evenly(rows: int, size: int) -> None:
    parts = [Ranks(rank, size).part(rows) for rank in range(size)]
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    counts = [len(range(rows)[part]) for part in parts]
    assert max(counts) - min(counts) <= 1


@given(st.sets(st.integers(1, 99)), st.integers(1, 100), SIZES)
def test_parts_that_begin_with_a_request_cover_a_steps_rows_once(cuts: set[int], rows: int, size: int) -> None:
    starts = np.array(sorted({0, *(cut for cut in cuts if cut < rows)}))
    parts = [Ranks(rank, size).part(rows, starts) for rank in range(size)]
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    assert all(part.start in (*starts, rows) for part in parts)
    anywhere = [Ranks(rank, size).part(rows, np.arange(rows)) for rank in range(size)]
    assert anywhere == [Ranks(rank, size).part(rows) for rank in range(size)]


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


def _of_rank(rank: int) -> list[torch.Tensor]:
    """Return what a rank adds; of a size that three ranks do not divide."""
    draw = torch.Generator().manual_seed(rank)
    return [torch.randn(7, 3, generator=draw), torch.randn(5, generator=draw), torch.tensor([1.0, 2.0**-20])]


def _rows_of(rank: int) -> torch.Tensor:
    return torch.linspace(0.1, 1.0, 6).view(3, 2) + rank


def _sent(ranks: Ranks) -> dict[str, list[list[float]]]:
    """Return sums of tensors, rows from the others, and a spread layer's gradient, of one rank."""
    sums, rows = _of_rank(ranks.rank), _rows_of(ranks.rank)
    ranks.add_up(sums)
    received = ranks.exchange_floats(rows, [1, 1, 1], [1, 1, 1])

    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(3, 3)

    layer = Sharded(ranks, torch.device("cpu")).built(make)
    layer(_of_rank(ranks.rank)[0]).square().sum().backward()
    gradient = next(layer.parameters()).grad
    return {
        "sums": [part.flatten().tolist() for part in sums],
        "rows": received.tolist(),
        "gradient": gradient.to_local().tolist(),  # type: ignore[union-attr]
    }


def test_short_messages_are_nearly_those_in_full() -> None:
    """And the same bits on every rank, added up in float32; a spread layer's gradients are rounded, too."""
    short, full = met(3, _sent, short=True), met(3, _sent)
    wanted = [torch.stack(parts).double().sum(0) for parts in zip(*map(_of_rank, range(3)), strict=True)]
    for one in short:
        assert one["sums"] == short[0]["sums"]
        for found, exact, whole in zip(one["sums"], wanted, full[0]["sums"], strict=True):
            close = {"rtol": 2**-7, "atol": 2**-7}
            torch.testing.assert_close(torch.tensor(found), exact.flatten().float(), **close)
            torch.testing.assert_close(torch.tensor(whole), exact.flatten().float())
    assert short[0]["sums"][2] == [3.0, 3 * 2.0**-20] and short[0]["sums"][0] != full[0]["sums"][0]
    for rank, (one, whole) in enumerate(zip(short, full, strict=True)):
        given = torch.stack([_rows_of(other)[rank] for other in range(3)])
        assert torch.equal(torch.tensor(whole["rows"]), given)
        assert torch.equal(torch.tensor(one["rows"]), given.bfloat16().float())
        torch.testing.assert_close(torch.tensor(one["gradient"]), torch.tensor(whole["gradient"]), rtol=3e-2, atol=3e-2)
        assert one["gradient"] != whole["gradient"]
