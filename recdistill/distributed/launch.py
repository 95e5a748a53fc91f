"""One model trained by several processes (torchrun): rows of every step are divided, tables are spread, the first
rank records.

It records what one process would, but for the order in which numbers are added up. Every rank writes its share of a
checkpoint; any number of ranks may resume from it, and one process too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from recdistill.distributed.ranks import Ranks
from recdistill.errors import RankLostError, RecdistillError, UserError

__all__ = ["TIMEOUT", "joined", "leave"]

TIMEOUT = 120.0  # seconds that a rank waits for the others; RECDISTILL_RANK_TIMEOUT sets another
MAX_VALUE = 1e6  # of a number in the environment
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _number(name: str, default: float = 0.0, least: float = 0.0) -> float:
    try:
        value = float(os.environ.get(name, default))
        if least <= value < MAX_VALUE:
            return value
    except ValueError:
        pass
    raise UserError(f"{name}={os.environ[name]!r}: must be a number from {least:g} to {MAX_VALUE:g}")


def _store(rank: int, size: int, timeout: timedelta) -> Store:
    """Return where ranks find one another. torchrun keeps it when it starts ranks again, with the addresses of those
    that are gone, so every start has a part of its own.
    """
    store, _, _ = next(rendezvous("env://", rank, size, timeout=timeout))
    return PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _place(rank: int, size: int, tensor: int) -> int:
    """Return the number of a process among the ranks: torchrun numbers those of a node in a row, and `tensor` of them
    share layers; `Ranks` numbers those with the same tokens in a row.
    """
    if size % tensor:
        raise UserError(f"--tensor {tensor}: does not divide {size} ranks; start a multiple of {tensor}")
    return rank % tensor * (size // tensor) + rank // tensor


@contextmanager
def joined(short: bool = False, tensor: int = 1) -> Iterator[Ranks]:
    """Join the other ranks, and leave them when the block ends; short, tensor: see `Ranks`.

    Raises UserError where the environment does not number the ranks or `tensor` does not divide their number,
    RankLostError when another rank is gone or silent.
    """
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not set; start ranks with: torchrun --nproc-per-node N --no-python recdistill "
            "train RUN"
        )
    timeout = timedelta(seconds=_number("RECDISTILL_RANK_TIMEOUT", TIMEOUT, 1.0))
    rank, size = int(_number("RANK")), int(_number("WORLD_SIZE", least=1.0))
    place = _place(rank, size, tensor)
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = _store(rank, size, timeout)
        dist.init_process_group(backend, store=store, rank=place, world_size=size, timeout=timeout)
        ahead, writing = (dist.new_group(backend="gloo", timeout=timeout) for _ in range(2))
        ranks = Ranks(place, size, short, None, ahead, writing, tensor, timeout)
        yield ranks
        ranks.wait()
    except torch.OutOfMemoryError as full:
        message = str(full).partition("\n")[0][:160]
        raise RecdistillError(
            f"rank {rank} of {size}: its device has no memory left ({message}); "
            "start more ranks with --shard, or lower batch, history or width"
        ) from full
    except (RuntimeError, dist.DistError) as lost:
        if isinstance(lost, RecdistillError):
            raise
        message = str(lost).strip().partition("\n")[0][:160]
        gone = f"another rank is gone, or was silent for {timeout.total_seconds():g} s"
        raise RankLostError(
            f"rank {rank} of {size}: {gone} ({message}); "
            "the last checkpoint is complete: start all ranks again to resume"
        ) from lost
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def leave() -> NoReturn:
    """End this rank's process, whose work is all on disk, at once: native threads of the other libraries that still run
    at the interpreter's own end abort it now and then, and torchrun would take that for a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
