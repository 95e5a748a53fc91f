"""The attention of one long history on a GPU, in short numbers, forward and backward: ours against PyTorch's
own on the same tensors.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from recdistill.models.attention.blockwise import attend, band_bias

__all__ = ["compared", "now"]

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def now(device: str) -> float:
    """Return the time, in seconds, when all work on the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(length: int, band: int, softmax: bool) -> Attention:
    """Return our attention of [1, H, L, d], a band with a bias by distance; PyTorch's has none."""

    def call(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads, bias = query.shape[1], band_bias(query.new_zeros(query.shape[1], 1), length, band)
        return attend(query[0], key[0], value[0], bias, heads=heads, band=band, softmax=softmax)[None]

    return call


def masked(length: int, band: int, device: str) -> Attention:
    """Return scaled_dot_product_attention under a mask of L x L."""
    apart = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    mask = (apart >= 0) & (apart < band)
    return lambda query, key, value: functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=1.0
    )


def flexible(length: int, band: int, device: str) -> Attention:
    """Return flex_attention under a mask of blocks, compiled."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # slow to import

    mask = create_block_mask(lambda _b, _h, q, k: (q >= k) & (q - k < band), None, None, length, length, device=device)
    compiled = torch.compile(flex_attention)
    # type: ignore[no-any-return]
    return lambda query, key, value: compiled(query, key, value, block_mask=mask, scale=1.0)


def seconds(call: Attention, parts: list[Tensor], rounds: int) -> float:
    """Return what a step takes, the median over rounds, after two to warm up."""
    found = []
    for _ in range(rounds + 2):
        start = now(parts[0].device.type)
        torch.autograd.grad(call(*parts).sum(), parts)
        found.append(now(parts[0].device.type) - start)
    return statistics.median(found[2:])


def compared(length: int, heads: int, width: int, band: int, rounds: int, device: str) -> list[list[str]]:
    """Return rows of (attention, milliseconds of a step, how many times ours under softmax); what fails shows its
    error.
    """
    parts = [
        torch.randn(1, heads, length, width, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    ]
    ways: dict[str, Callable[[], Attention]] = {
        f"ours, softmax, band {band}": lambda: ours(length, band, True),
        f"ours, SiLU, band {band}": lambda: ours(length, band, False),
        "ours, softmax, all": lambda: ours(length, length, True),
        "scaled_dot_product_attention, all": lambda: (
            lambda *x: functional.scaled_dot_product_attention(*x, is_causal=True, scale=1.0)
        ),
        f"scaled_dot_product_attention, band {band}": lambda: masked(length, band, device),
    }
    if device == "cuda":  # on a CPU it has no backward pass
        ways[f"flex_attention, band {band}"] = lambda: flexible(length, band, device)
    rows, first = [], 0.0
    for name, way in ways.items():
        try:
            took = seconds(way(), parts, rounds)
        except (RuntimeError, ImportError, NotImplementedError) as wrong:
            rows.append([name, str(wrong).splitlines()[0][:50], ""])
            continue
        first = first or took
        rows.append([name, f"{took * 1e3:.2f}", f"{took / first:.2f}"])
    return rows
