"""Rows of an embedding table spread over ranks, against torchrec's: `python benchmarks/sharded.py` (about 8 minutes).
Budget: ratio >= 1.

A step looks ids up in 1,000,000 rows, drawn by Zipf's law, and moves what it touched by row-wise Adagrad, which both
have; Adam is ours alone, for FBGEMM has none on a CPU. `distinct`: both are given each id of the batch once, as
recdistill's batches are; `repeated`: both are given all 20,000, and ours finds the distinct ones within the time. Ids
are numbered at random, or by popularity, nearly what a vocabulary does that numbers them as they appear. Gradients are
given; there is no model. Ranks are processes of this machine that communicate over gloo, one thread each; one rank is
the table that a run without torchrun has.

torchrec's is an EmbeddingCollection sharded row-wise, the optimiser fused into its backward pass; the budget is for
that. Its EmbeddingBagCollection with one id in each bag does the same by another kernel; it is shown too. Without
torchrec ours alone is measured. `held`: our table whose rows FBGEMM holds and moves (`embeddings: torchrec`), where
FBGEMM is installed.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from _common import paired, report
from torch import Tensor

from recdistill.distributed.ranks import Ranks
from recdistill.models.embeddings.fbgemm_rows import FbgemmTable
from recdistill.models.embeddings.growable import GrowableTable, Optimiser
from recdistill.models.embeddings.sharded import ShardedTable

ROWS, IDS, RATE = 1_000_000, 20_000, 1e-2
DISTINCT = 9_500  # of the ids of a batch, where each stands once: as many on every rank, as torchrec's bags want it
BATCHES, ROUNDS, STEPS = 24, 15, 4  # different batches; the median of that many rounds of that many steps is shown
BUDGET = 1.0
TORCHREC, FBGEMM = (importlib.util.find_spec(name) is not None for name in ("torchrec", "fbgemm_gpu"))
Step = Callable[[int], Any]
Case = tuple[int, int, bool, bool]  # ranks, width, distinct, popular ids first
CASES = [(ranks, width, distinct, False) for ranks in (1, 2) for width in (32, 128) for distinct in (True, False)]
CASES += [(2, width, True, True) for width in (32, 128)]


def batches(rank: int, distinct: bool, popular: bool) -> list[Tensor]:
    """Return a rank's batches: int64 [IDS], or [DISTINCT] of them, each once, the first of them padding, 0."""
    draw = np.random.default_rng((0, rank))
    edges = np.cumsum(1.0 / np.arange(1, ROWS))
    name = np.arange(1, ROWS) if popular else 1 + np.random.default_rng(1).permutation(ROWS - 1)
    drawn = [name[np.searchsorted(edges, draw.random(IDS) * edges[-1]).clip(0, ROWS - 2)] for _ in range(BATCHES)]
    if distinct:
        drawn = [np.concatenate([[0], np.sort(draw.permutation(np.unique(ids))[: DISTINCT - 1])]) for ids in drawn]
    return [torch.from_numpy(ids) for ids in drawn]


def table_of(ranks: Ranks, width: int, optimiser: Optimiser, held: bool) -> GrowableTable:
    """Return our table; held: by FBGEMM."""
    table, here = (
        GrowableTable(width, seed=0, name="item", std=0.02, optimiser=optimiser, rate=RATE),
        torch.device("cpu"),
    )
    if ranks.size == 1:
        return FbgemmTable(table, here) if held else table
    spread = ShardedTable(table, ranks)
    if held:
        spread.lie_on(here, fused=True)
    return spread


def ours(table: GrowableTable, distinct: bool, given: list[Tensor], gradients: list[Tensor]) -> Step:
    """Return one step of a table of ours on batch k."""
    zero = torch.zeros(1, dtype=torch.int64)

    def step(k: int) -> None:
        k %= len(given)
        if distinct:
            table(given[k]).backward(gradients[k])
        else:
            unique, inverse = torch.unique(torch.cat([zero, given[k]]), return_inverse=True)
            table(unique).index_select(0, inverse[1:]).backward(gradients[k])
        table.step()

    return step


def theirs(width: int, bags: bool, given: list[Tensor], gradients: list[Tensor]) -> Step:
    """Return the same of torchrec's EmbeddingCollection, or of its EmbeddingBagCollection with one id in each bag."""
    import torchrec
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from torchrec.distributed.comm_ops import set_gradient_division
    from torchrec.distributed.embedding import EmbeddingCollectionSharder
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
    from torchrec.distributed.types import ShardingEnv

    set_gradient_division(False)  # gradients are summed over ranks, as ours
    fused = {"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": RATE, "eps": 1e-8}
    sharder: Any = (EmbeddingBagCollectionSharder if bags else EmbeddingCollectionSharder)(fused_params=fused)
    kind, config = (
        (torchrec.EmbeddingBagCollection, torchrec.EmbeddingBagConfig)
        if bags
        else (torchrec.EmbeddingCollection, torchrec.EmbeddingConfig)
    )
    one = config(num_embeddings=ROWS, embedding_dim=width, name="item", feature_names=["id"])
    module, size = kind(tables=[one], device=torch.device("meta")), dist.get_world_size()
    plan = construct_module_sharding_plan(
        module, {"item": row_wise(compute_kernel="fused")}, sharder, local_size=size, world_size=size, device_type="cpu"
    )
    sharded = sharder.shard(module, plan, ShardingEnv.from_process_group(dist.group.WORLD), torch.device("cpu"))
    lengths = [torch.ones(len(ids), dtype=torch.int64) for ids in given]

    def step(k: int) -> None:
        k %= len(given)
        found = sharded(torchrec.KeyedJaggedTensor(["id"], given[k], lengths=lengths[k]))
        (found.wait() if bags else found["id"]).values().backward(gradients[k])

    return step


def rounds_of(step: Step) -> Step:
    """Return STEPS steps as one, that ends when all ranks have come there."""

    def several(k: int) -> None:
        for at in range(k * STEPS, (k + 1) * STEPS):
            step(at)
        dist.barrier()

    return several


def measured(ranks: Ranks, width: int, distinct: bool, popular: bool) -> tuple[int, list[float], list[float]]:
    """Return (rows of a step over all ranks, seconds of each side's step, each one's but Adam's over ours).

    The sides: ours with Adagrad, with Adam, and where there are peers: torchrec's collection and its bags; ours that
    FBGEMM holds.
    """
    given = batches(ranks.rank, distinct, popular)
    gradients = [
        torch.randn(len(ids), width, generator=torch.Generator().manual_seed(k)) for k, ids in enumerate(given)
    ]
    kinds: list[tuple[Optimiser, bool]] = [("rowwise-adagrad", False), ("adam", False)]
    steps = [ours(table_of(ranks, width, *kind), distinct, given, gradients) for kind in kinds]
    steps += [theirs(width, bags, given, gradients) for bags in (False, True)] if TORCHREC else []
    held = [table_of(ranks, width, "rowwise-adagrad", True)] if FBGEMM else []
    steps += [ours(table, distinct, given, gradients) for table in held]
    for k in range(BATCHES):  # every row of the batches is there, as in a table that has learned for a while
        for step in steps:
            step(k)
    one, *rest = map(rounds_of, steps)
    found = [paired(one, other, ROUNDS) for other in rest]
    seconds = [found[0][0] / STEPS, *(other / STEPS for _, other, _ in found)]
    return ranks.size * len(given[0]), seconds, [ratio for _, _, ratio in found[1:]]


def work(rank: int, size: int, port: int, results: Any) -> None:
    """Measure the cases of so many ranks, as one of them."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    for case in CASES:
        if case[0] == size:
            found = measured(Ranks(rank, size), *case[1:])
            if rank == 0:
                results.put((case, *found))
    dist.destroy_process_group()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def row_of(case: Case, rows: int, seconds: list[float], ratios: list[float]) -> list[str]:
    """Return a case's line."""
    ranks, width, distinct, popular = case
    words = [
        str(ranks),
        str(width),
        "distinct" if distinct else "repeated",
        "popular" if popular else "random",
        f"{rows:,}",
    ]
    return [*words, *(f"{rows / took:,.0f}" for took in seconds), *(f"{ratio:.2f}" for ratio in ratios)]


def main() -> int:
    """Measure every case."""
    if not TORCHREC:
        print(
            "torchrec is not installed, ours alone is measured; see docs/how-big.md for installing it", file=sys.stderr
        )
    results, found = torch.multiprocessing.get_context("spawn").SimpleQueue(), []
    for size in (1, 2):
        torch.multiprocessing.spawn(work, (size, free_port(), results), size)
        while not results.empty():
            found.append(results.get())
    model = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    columns = ["ranks", "width", "ids", "order", "a step", "Adagrad rows/s", "Adam"]
    peers = ["torchrec", "its bags"] * TORCHREC + ["held"] * FBGEMM
    columns += [*peers, *(f"{name} / ours" for name in peers)]
    met = all(ratios[0] >= BUDGET for *_, ratios in found if TORCHREC)
    title = f"one table of {ROWS:,} rows; {os.cpu_count()} cores of {model[0] if model else 'an unknown processor'}"
    return report(title, columns, [row_of(*one) for one in found], met, f">= {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
