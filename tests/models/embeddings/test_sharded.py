"""Two gloo ranks: rows spread over them learn what one table learns, wherever each rank has its own and whoever holds
them, and what torchrec's row-wise Adagrad does where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from recdistill.distributed.ranks import Ranks
from recdistill.models.embeddings.bounded import BoundedTable, RowBudget
from recdistill.models.embeddings.growable import GrowableTable, Optimiser
from recdistill.models.embeddings.sharded import ShardedTable
from tests.support.pretended_device import Elsewhere, another_device
from tests.support.programs import needs
from tests.support.rank_processes import met
from tests.support.table_steps import agree

ROWS, WIDTH, STEPS, RATE = 101, 8, 6, 0.05  # a number of rows that two ranks do not divide


def table(optimiser: Optimiser) -> GrowableTable:
    return GrowableTable(WIDTH, seed=1, name="t", std=0.1, optimiser=optimiser, rate=RATE)


def asked(rank: int, step: int) -> tuple[Tensor, Tensor]:
    """Return what a rank looks up, distinct with padding first, and the gradient of it, padding's being zero."""
    draw = torch.Generator().manual_seed(100 * step + rank)
    rows = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(ROWS - 1, generator=draw)[: 20 + 7 * rank]])
    gradient = torch.randn(len(rows), WIDTH, generator=draw)
    gradient[0] = 0.0
    return rows, gradient


def learned(name: str) -> Tensor:
    """Return all rows, [ROWS, WIDTH], after STEPS steps of one table that sees what both ranks see."""
    one = table(name)  # type: ignore[arg-type]
    for step in range(STEPS):
        for rank in range(2):
            rows, gradient = asked(rank, step)
            one(rows).backward(gradient)
        one.step()
    return one.peek(torch.arange(ROWS))


def spread(optimiser: Optimiser, ranks: Ranks, home: torch.device | None = None, fused: bool = False) -> Tensor:
    ours = ShardedTable(table(optimiser), ranks)
    if home is not None:
        ours.lie_on(home, fused)
    for step in range(STEPS):
        rows, gradient = asked(ranks.rank, step)
        ours(rows).backward(gradient)
        ours.step()
    with torch.no_grad():
        return ours(torch.arange(ROWS))


def torchrecs(ranks: Ranks) -> Tensor:
    import torchrec
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from torchrec.distributed.comm_ops import set_gradient_division
    from torchrec.distributed.embedding import EmbeddingCollectionSharder
    from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
    from torchrec.distributed.types import ShardingEnv

    set_gradient_division(False)
    sharder = EmbeddingCollectionSharder(
        {"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": RATE, "eps": 1e-8}
    )
    config = torchrec.EmbeddingConfig(num_embeddings=ROWS, embedding_dim=WIDTH, name="t", feature_names=["id"])
    module = torchrec.EmbeddingCollection(tables=[config], device=torch.device("meta"))
    plan = construct_module_sharding_plan(
        module, {"t": row_wise(compute_kernel="fused")}, sharder, local_size=2, world_size=2, device_type="cpu"
    )
    theirs = sharder.shard(module, plan, ShardingEnv.from_process_group(dist.group.WORLD), torch.device("cpu"))
    with torch.no_grad():
        for shard in theirs.state_dict()["embeddings.t.weight"].local_shards():
            first = shard.metadata.shard_offsets[0]
            shard.tensor.copy_(table("rowwise-adagrad").peek(torch.arange(first, first + len(shard.tensor))))

    def look(rows: Tensor) -> Tensor:
        looked = theirs(torchrec.KeyedJaggedTensor(["id"], rows, lengths=torch.ones_like(rows)))
        values: Tensor = looked["id"].values()
        return values

    for step in range(STEPS):
        rows, gradient = asked(ranks.rank, step)
        look(rows).backward(gradient)
    return look(torch.arange(ROWS)).detach()


HERE = torch.device("cpu")
WAYS: dict[str, Callable[[Ranks], Sequence[Tensor]]] = {
    "adam": lambda ranks: [spread("adam", ranks), spread("adam", ranks, HERE)],
    "rowwise-adagrad": lambda ranks: [spread("rowwise-adagrad", ranks), spread("rowwise-adagrad", ranks, HERE)],
    "fbgemm": lambda ranks: [spread("rowwise-adagrad", ranks, HERE, fused=True)],
    "torchrec": lambda ranks: [torchrecs(ranks)],
}


def found(way: str, ranks: Ranks) -> list[list[list[float]]]:
    """Return what one of the ranks finds, as lists: they come from another process."""
    return [rows.tolist() for rows in WAYS[way](ranks)]


def on_two_ranks(way: str) -> None:
    """Compare what each rank finds with one table."""
    for rows in (torch.tensor(rows) for of_rank in met(2, partial(found, way)) for rows in of_rank):
        torch.testing.assert_close(rows, learned("adam" if way == "adam" else "rowwise-adagrad"))
        assert not rows[0].any() and (rows[1:] != table("adam").peek(torch.arange(1, ROWS))).any(1).float().mean() > 0.5


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
def test_rows_spread_over_two_ranks_learn_what_one_table_learns(optimiser: str) -> None:
    on_two_ranks(optimiser)


@needs("fbgemm_gpu")
def test_rows_that_fbgemm_holds_learn_what_one_table_learns() -> None:
    on_two_ranks("fbgemm")


class Loop(Ranks):
    """One rank that sends itself what it sends."""

    def counts(self, mine: Tensor) -> Tensor:
        return mine

    def exchange(self, rows: Tensor, mine: Sequence[int], theirs: Sequence[int]) -> Tensor:
        return rows.clone()


def looped(optimiser: Optimiser, home: torch.device | None) -> dict[str, Tensor]:
    """Return the state of a table after some steps of two look-ups each; its rows travel from `home` and to there."""
    ours = ShardedTable(table(optimiser), Loop())
    if home is not None:
        ours.lie_on(home)
        ours.device = home
    for step in range(STEPS):
        for rank in range(2):
            rows, gradient = asked(rank, step)
            found = ours(rows)
            assert isinstance(found, Elsewhere) == (home is not None)
            (found * gradient.to(found.device)).sum().backward()
        ours.step()
    assert torch.equal(ours.peek(torch.arange(1, 5)), ours.owned.peek(torch.arange(1, 5)))
    return ours.state()


@pytest.mark.parametrize("optimiser", ["adam", "rowwise-adagrad"])
def test_rows_travel_between_devices_without_the_host(optimiser: Optimiser) -> None:
    """On a device that only pretends to be one: what is left on the wrong one fails there."""
    here = looped(optimiser, None)
    with another_device() as device:
        agree(looped(optimiser, device), here)


def test_rowwise_adagrad_is_torchrecs() -> None:
    pytest.importorskip("torchrec")
    on_two_ranks("torchrec")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_takes_over_and_freezes_its_own_rows_until_they_thaw(rank: int) -> None:
    """Also where it goes on from its state."""
    rows, values = torch.arange(1, 8), torch.rand(7, WIDTH)
    mine = rows[rows % 2 == rank]
    first, again = (ShardedTable(table("adam"), Ranks(rank, 2)) for _ in range(2))
    first.take_rows(rows, values)
    first.freeze(rows)
    again.load_state(first.state())
    assert again.state()["rows"].tolist() == mine.tolist() and again.touched == len(mine)
    for thawed in (False, True):
        if thawed:
            again.thaw()
        again.learn([mine // 2], [torch.ones(len(mine), WIDTH)])
        assert torch.equal(again.peek(mine), values[mine - 1]) != thawed


BUDGET = RowBudget(16, admit=2)  # of 40 ids; an id may stand in one of 8 places
KEYS = {
    "rows": ("weight", "first", "second", "steps", "ids", "last"),
    "waits": ("waiting", "waiting_last", "sightings"),
}


def sought(rank: int, step: int) -> tuple[Tensor, Tensor]:
    """Return what a rank looks up of a bounded table, and the gradient of it."""
    draw = torch.Generator().manual_seed(100 * step + rank)
    rows = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(40, generator=draw)[: 4 + rank]])
    return rows, torch.randn(len(rows), WIDTH, generator=draw)


def kept(ranks: Ranks) -> tuple[dict[str, int], dict[str, list[float]]]:
    ours = ShardedTable(table("adam"), ranks, BUDGET)
    for step in range(15):
        rows, gradient = sought(ranks.rank, step)
        ours(rows).backward(gradient)
        ours.step()
    return ours.facts(), {name: value.tolist() for name, value in ours.state().items()}


def in_order(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a bounded table's state by place, whoever has it."""
    found = {}
    for key, others in KEYS.items():
        order = torch.argsort(state[key])
        found |= {name: state[name][order] for name in (key, *others)}
    return found


def test_bounded_rows_over_two_ranks_are_given_and_taken_as_in_one_table() -> None:
    """And a state of two is one of one, and the other way round."""
    one = BoundedTable(table("adam"), BUDGET)
    for step in range(15):
        asked_for = [sought(rank, step) for rank in range(2)]
        unique, place = torch.unique(torch.cat([rows for rows, _ in asked_for]), return_inverse=True)
        gradient = torch.zeros(len(unique), WIDTH).index_add_(0, place, torch.cat([pull for _, pull in asked_for]))
        one(unique).backward(gradient)
        one.step()
    (facts, first), (others, second) = met(2, kept)
    assert facts == others == one.facts() and facts["evicted"] > 5
    whole, back = one.state(), BoundedTable(table("adam"), BUDGET)
    both = {name: torch.tensor(first[name] + second[name], dtype=value.dtype) for name, value in whole.items()}
    wanted = in_order(whole)
    back.load_state(both)
    parts = [BoundedTable(table("adam"), BUDGET, Ranks(rank, 2)) for rank in range(2)]
    for part in parts:
        part.load_state(one.state())
    again = {name: torch.cat([part.state()[name] for part in parts]) for name in both}
    for state in (both, back.state(), again):
        for name, value in in_order(state).items():
            torch.testing.assert_close(value, wanted[name], msg=name)
    assert back.facts() == one.facts() and back.now == one.now == parts[1].now
    assert [sum(part.facts()[name] for part in parts) for name in facts] == [*facts.values()]
