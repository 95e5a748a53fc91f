"""What it saves that two ranks share a token mixer's layers by tokens, instead of gathering all weights: bytes that
come to a rank in a step, and the step's time, on this machine over gloo: `python benchmarks/tensor.py` (a minute).

Both ways are taken by turns, by the same two processes. An optimiser's step is left out; it is the same for both.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from _common import report
from torch.utils._python_dispatch import TorchDispatchMode

from recdistill.distributed.fsdp import Sharded
from recdistill.distributed.ranks import Ranks
from recdistill.models.backbones.token_mixer import TokenMixer

SIZE, INPUTS, ROWS, TURNS, WARM = 2, 64, (32, 512), 9, 2
SHAPE = {"tokens": 8, "heads": 8, "width": 192, "layers": 4}
WAYS = {1: "--shard", SIZE: f"--shard --tensor {SIZE}"}


class Received(TorchDispatchMode):
    """Counts the bytes that come to a rank from the other one."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if "allgather_base" in name or "reduce_scatter_base" in name:
            self.count += abs(args[0].nbytes - args[1].nbytes)
        if "all_to_all_single" in name:
            self.count += args[0].nbytes // SIZE
        return func(*args, **(kwargs or {}))


def made() -> TokenMixer:
    """Return the network that both ways spread."""
    torch.manual_seed(0)
    return TokenMixer(INPUTS, **SHAPE)


def step(network: TokenMixer, features: torch.Tensor) -> float:
    """Return the seconds of a pass there and back."""
    dist.barrier()
    start = time.perf_counter()
    network.zero_grad()
    torch.autograd.backward(network(features).square().mean())
    return time.perf_counter() - start


def rank(number: int, port: int, results: Any) -> None:
    """Put (rows, tensor, bytes, seconds) of a step for every way, as the first of the ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=number, world_size=SIZE)
    ranks = Ranks(number, SIZE)
    networks = {way: Sharded(replace(ranks, tensor=way), torch.device("cpu")).built(made) for way in WAYS}
    for rows in ROWS:
        features = torch.randn(rows, INPUTS)[ranks.part(rows)]
        turns = [{way: step(network, features) for way, network in networks.items()} for _ in range(TURNS + WARM)]
        for way, network in networks.items():
            with Received() as received:
                step(network, features)
            if ranks.first:
                results.put((rows, way, received.count, statistics.median(turn[way] for turn in turns[WARM:])))
    dist.destroy_process_group()


def main() -> int:
    """Print a table; there is no budget."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    ranks = [context.Process(target=rank, args=(number, port, results)) for number in range(SIZE)]
    for process in ranks:
        process.start()
    found = [results.get() for _ in range(len(ROWS) * len(WAYS))]
    for process in ranks:
        process.join()
    whole = {rows: seconds for rows, way, _, seconds in found if way == 1}
    rows = [
        [f"{rows:,}", WAYS[way], f"{count / 1e6:.1f}", f"{seconds * 1e3:.0f}", f"{seconds / whole[rows]:.2f}"]
        for rows, way, count, seconds in found
    ]
    weights = sum(weight.numel() for weight in made().parameters()) / 1e6
    head = ("rows of a step", "way", "MB from the other", "ms", "ratio")
    return report(f"a token mixer of {weights:.1f}M weights by {SIZE} ranks, over gloo", head, rows, True, "none")


if __name__ == "__main__":
    sys.exit(main())
