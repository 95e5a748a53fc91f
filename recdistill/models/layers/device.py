"""Where the dense part of a model computes. Embedding tables stay in the host's memory, which holds more rows; a
batch's rows are copied to the device and their gradients back, unless the tables lie there too (on_device.py). Logits
are copied to the host, where the labels are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable

__all__ = ["device_of", "one_thread", "place"]


def device_of(name: str) -> torch.device:
    """Return the device of a configuration's `device`: cpu, cuda, or auto, which is cuda where there is one.

    One process of several on a machine takes the CUDA device of its number there (LOCAL_RANK, as torchrun counts).
    Raises UserError for cuda where there is none, and for a process beyond the last one.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError(
            "device cuda: torch sees no CUDA device; set device: cpu or auto, or install a CUDA build of torch"
        )
    if name == "cpu" or not there:
        return torch.device("cpu")
    number, count = os.environ.get("LOCAL_RANK", "0"), torch.cuda.device_count()
    if not number.isdigit() or int(number) >= count:
        raise UserError(
            f"device {name}: process {number} of this machine has no CUDA device, there are {count}; "
            "start as many processes as devices, or set device: cpu"
        )
    return torch.device("cuda", int(number))


def place(network: nn.Module, device: torch.device) -> None:
    """Let a network compute on `device` from now on; before an optimiser takes its parameters."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if device.type != "cpu":
        network.to(device)
    for part in network.modules():
        if isinstance(part, GrowableTable):
            part.device = device


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute as in a training process: sums of several threads are not the same to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
