"""What ranks cost: a light student's step by one and by two ranks on this machine, and how much of it is messages:
`python benchmarks/ranks.py` (a minute).

Two ranks share the rows of a step. Its messages are as many whatever the batch, so that small steps are decided by how
long a message takes, and large ones by what a rank computes. Those of a second thread, which are sent ahead of their
step, are counted apart, and nobody waits for them as long as they are quick.
"""

from __future__ import annotations

import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from _common import report, store_of

from recdistill.config.models import StudentConfig
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.sample_store import SampleStore
from recdistill.distributed.ranks import InFull, Ranks
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.embeddings.sharded import spread_tables
from recdistill.models.factory import build_backbone
from recdistill.models.heads import Towers
from recdistill.train.learner import Learner
from recdistill.train.step import Prepared
from recdistill.train.step import steps as learned

BATCHES, ROWS, WARM = (64, 512, 4096), 40_000, 5
CALLS = ("all_reduce", "all_to_all_single", "all_gather", "barrier")


class Messages:
    """Counts the calls of torch.distributed and their seconds, and the calls of other threads."""

    def __init__(self) -> None:
        self.count, self.seconds, self.ahead = 0, 0.0, 0
        for name in CALLS:
            setattr(dist, name, self.counted(getattr(dist, name)))

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, counted."""

        def one(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            found = call(*args, **kwargs)
            if threading.current_thread() is not threading.main_thread():
                self.ahead += 1
                return found
            self.count, self.seconds = self.count + 1, self.seconds + time.perf_counter() - start
            return found

        return one


def learner_of(store: SampleStore, ranks: Ranks) -> Learner:
    """Return a DIN student whose tables are spread over the ranks."""
    torch.manual_seed(0)
    shape = {"width": 16, "fields": store.context.shape[1], "slots": store.lists.shape[1], "actions": store.actions}
    network = Towers(build_backbone("din", **shape, length=30, tables=TableOptions(), options={}), len(store.tasks))
    spread_tables(network, ranks)
    return Learner(network, StudentConfig(), tasks=store.tasks, dense=InFull(ranks))


def steps(folder: str, rank: int, size: int, port: int, results: Any) -> None:
    """Learn as one of the ranks; put (batch, seconds, messages, seconds in messages, messages ahead) of a step
    for every batch.
    """
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    ahead = dist.new_group() if size > 1 else None
    store, ranks, counted = SampleStore(Path(folder) / "store"), Ranks(rank, size, ahead=ahead), Messages()
    learner, builder = learner_of(store, ranks), BatchBuilder.of(store, StudentConfig())
    for batch in BATCHES:
        count = max(20, min(100, ROWS // batch // 2))
        every = [np.arange(at, at + batch)[ranks.part(batch)] % ROWS for at in range(0, (count + WARM) * batch, batch)]
        made = [Prepared(builder.build(rows), torch.ones(len(rows), dtype=torch.bool)) for rows in every]
        for number, _ in enumerate(learned(learner, made.__getitem__, range(len(made)))):
            if number == WARM - 1:
                start, counted.count, counted.seconds, counted.ahead = time.perf_counter(), 0, 0.0, 0
        seconds = time.perf_counter() - start
        if rank == 0:
            results.put((batch, *(of / count for of in (seconds, counted.count, counted.seconds, counted.ahead))))
    if size > 1:
        dist.destroy_process_group()


def measured(folder: str, size: int) -> list[tuple[int, float, float, float, float]]:
    """Return what the first of so many ranks found."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    ranks = [context.Process(target=steps, args=(folder, rank, size, port, results)) for rank in range(size)]
    for process in ranks:
        process.start()
    rows = [results.get() for _ in BATCHES]
    for process in ranks:
        process.join()
    return rows


def main() -> int:
    """Print a table; there is no budget."""
    with tempfile.TemporaryDirectory() as folder:
        store_of(Path(folder), ROWS, 5_000, 2_000, candidates=4)
        rows = []
        pairs = zip(measured(folder, 1), measured(folder, 2), strict=True)
        for (batch, one, *_), (_, two, count, waited, ahead) in pairs:
            sent = f"{count:.0f} + {ahead:.0f}"
            cells = f"{one * 1e3:.1f}", f"{two * 1e3:.1f}", f"{two / one:.2f}", sent, f"{waited / two:.2f}"
            rows.append([f"{batch:,}", *cells])
    head = ("rows of a step", "ms, one rank", "ms, two", "ratio", "messages + ahead", "share in messages")
    return report("a DIN student by ranks, over gloo", head, rows, True, "none")


if __name__ == "__main__":
    sys.exit(main())
