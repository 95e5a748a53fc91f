"""Ranks of `recdistill train` as processes that need not import anything anew: they are forked from one that has
imported what a rank does.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from recdistill.distributed.ranks import Ranks
from recdistill.testing.killpoints import VARIABLE

__all__ = ["RankProcess", "ended", "free_port", "met", "started"]

IMPORTED = ("recdistill.api.run", "recdistill.app.run", "recdistill.distributed.fsdp", "recdistill.cli.app")
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([*IMPORTED, "tests.support.rank_processes"])


def _run(words: Sequence[str], environment: dict[str, str], output: str) -> None:
    """Run the command line in this process, its output into a file."""
    os.environ.update(environment)
    to = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(to, 1)
    os.dup2(to, 2)
    sys.argv = ["recdistill", *words]
    from recdistill.cli.app import main

    main()


class RankProcess:
    """A command line that runs; `ended` waits for it."""

    def __init__(self, words: Sequence[str], environment: dict[str, str]) -> None:
        handle, self.output = tempfile.mkstemp()
        os.close(handle)
        self.process = _server.Process(target=_run, args=([*map(str, words)], environment, self.output))
        self.process.start()

    def end(self) -> tuple[int, str]:
        """Return (exit code, minus the signal that ended it; output)."""
        self.process.join(600)
        code, text = self.process.exitcode, Path(self.output).read_text()
        Path(self.output).unlink()
        return -1 if code is None else code, text


def ended(processes: Sequence[RankProcess]) -> list[tuple[int, str]]:
    """Return what every rank ended with."""
    return [process.end() for process in processes]


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def started(
    root: Path,
    ranks: int,
    *words: str,
    model: str = "teacher",
    timeout: float = 120,
    kill: tuple[int, str] | None = None,
) -> list[RankProcess]:
    """Start the ranks of `recdistill train`; kill: (rank, kill point) that ends one of them with SIGKILL."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "RECDISTILL_RANK_TIMEOUT": str(timeout),
    }
    call = ["train", str(root), "--model", model, *words]
    return [
        RankProcess(call, {**shared, "RANK": str(rank), **({VARIABLE: kill[1]} if kill and kill[0] == rank else {})})
        for rank in range(ranks)
    ]


def _meet(rank: int, size: int, short: bool, port: int, work: Callable[[Ranks], Any], results: Any) -> None:
    os.environ["LOCAL_WORLD_SIZE"] = str(size)  # as torchrun says it, so that ranks share the machine's cores
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    found = None
    try:
        found = work(Ranks(rank, size, short, None, dist.new_group(), dist.new_group()))
    finally:
        results.put((rank, found))  # nothing, where it failed: the test need not wait for it
    dist.destroy_process_group()


def met(size: int, work: Callable[[Ranks], Any], short: bool = False) -> list[Any]:
    """Return what `work`, a function of a module, gives on each of so many ranks."""
    results, port = _server.SimpleQueue(), free_port()
    ranks = [_server.Process(target=_meet, args=(rank, size, short, port, work, results)) for rank in range(size)]
    for process in ranks:
        process.start()
    found = dict(results.get() for _ in ranks)
    for process in ranks:
        process.join(60)
    return [found[rank] for rank in range(size)]
