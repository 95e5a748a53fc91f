"""Tensors on their way to the device that computes. To CUDA they go by way of pinned memory, in the order of the
current stream, and the host does not wait for them; torch keeps such memory until what is copied from it has arrived.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gathered", "moved"]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device: itself where it lies there already."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def gathered(rows: Tensor, at: Tensor, device: torch.device) -> Tensor:
    """Return [n, ...], a copy on the host of these of its `rows`, at int64 [n], ready to go to a device."""
    if device.type != "cuda":
        return rows.index_select(0, at)
    found = torch.empty(len(at), *rows.shape[1:], dtype=rows.dtype, pin_memory=True)
    return torch.index_select(rows, 0, at, out=found)
