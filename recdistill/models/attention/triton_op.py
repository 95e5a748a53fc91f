"""Attention as fused Triton kernels, for CUDA: what blockwise.py does by blocks, forward and backward, without ever
writing a score down.

Shapes as in blockwise.py. bfloat16, float16 or float32, added up in float32, whose products are exact float32 ones (no
TF32). Every sum is made in one order, the bias gradient's too: the same inputs give the same bits. Kept for the
backward pass are the inputs and, for softmax, the output and one number per query.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recdistill.models.attention.time_bias import TimeBias

__all__ = ["WIDEST", "fused", "serves"]

WIDEST = 256  # of a head: what a program holds of queries and keys still fits its shared memory
PROGRAMS = 512  # the bias gradient is made by at least so many, where there is work for them
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def serves(device: str, parts: Sequence[Tensor]) -> bool:
    """Return whether `fused` does attention on a type of device with query, key, value: CUDA with Triton, one short or
    single dtype, heads of at most WIDEST.
    """
    known = parts[0].dtype in DTYPES and len({part.dtype for part in parts}) == 1
    return device == "cuda" and known and all(part.shape[2] <= WIDEST for part in parts) and _installed()


def _reach(alive: Sequence[int] | None, block: int, histories: int, n: int, device: torch.device) -> Tensor:
    """Return int32 [R], how many of its n queries count for each history; see `attend` for alive."""
    if alive is None:
        return torch.full((histories,), n, dtype=torch.int32, device=device)
    blocks = torch.tensor(alive, device=device)[:, None] > torch.arange(histories, device=device)
    return (blocks.sum(0) * block).clamp(max=n).int()


def _step(widest: int, item: int) -> int:
    """Return how many queries and keys a program works on at a time: so few that they fit its registers, as found
    by the compiler's report.
    """
    return max(16, min(64, 32768 // (widest * item**2)))


def _sizes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    table: Tensor | None,
    heads: int,
    band: int | None,
    softmax: bool,
    block: int,
) -> dict[str, Any]:
    """Return the arguments that all kernels share; without a band the one block holds all n queries."""
    n, m, e, d = query.shape[1], key.shape[1], query.shape[2], value.shape[2]
    widths = [max(16, 1 << (width - 1).bit_length()) for width in (e, d)]
    step = _step(max(widths), query.element_size())
    size, columns = (0, 0) if bias is None else bias.shape[1:]
    return {
        "n": n,
        "m": m,
        "heads": heads,
        "band": band or 0,
        "block": n if band is None else block,
        "columns": columns,
        "size": size,
        "E": e,
        "D": d,
        "EP": widths[0],
        "DP": widths[1],
        "QS": step,
        "KS": step,
        "BANDED": band is not None,
        "BIASED": bias is not None,
        "SOFTMAX": softmax,
        "GAPS": 0 if table is None else table.shape[1],
        "num_warps": 8 if step == 64 else 4,
        "num_stages": 2 if step == 64 else 1,
    }


def _groups(rows: int, sizes: dict[str, Any]) -> tuple[int, int]:
    """Return (programs over the bias table of a head, parts that its gradient is made in)."""
    tiles = -(-sizes["size"] // sizes["QS"]) * -(-sizes["columns"] // sizes["KS"])
    pieces = rows // sizes["heads"] * -(-sizes["n"] // sizes["block"])
    return tiles, max(1, min(pieces, PROGRAMS // (tiles * sizes["heads"])))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        gaps: Tensor | None,
        times: Sequence[Tensor],
        heads: int,
        band: int | None,
        alive: Sequence[int] | None,
        softmax: bool,
        block: int,
    ) -> Tensor:
        from recdistill.models.attention import triton_kernels

        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        sizes = _sizes(query, key, value, bias, gaps, heads, band, softmax, block)
        rows, n, m = len(query), query.shape[1], key.shape[1]
        out = value.new_zeros(rows, n, value.shape[2])
        levels = query.new_zeros((rows, n) if softmax else (1, 1), dtype=torch.float32)
        reach = _reach(alive, block, rows // heads, n, query.device)
        added = _added(query, bias, gaps, times)
        if rows and n and m:
            with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
                triton_kernels.forward[(rows * -(-n // sizes["QS"]),)](
                    query, key, value, *added, reach, out, levels, **sizes
                )
        ctx.save_for_backward(query, key, value, bias, gaps, reach, levels, *times, *([out] if softmax else []))
        ctx.sizes, ctx.timed = sizes, len(times)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, gaps, reach, levels, *rest = ctx.saved_tensors
        times, out = rest[: ctx.timed], rest[ctx.timed :]
        grad = grad.contiguous()
        means = (grad.float() * out[0].float()).sum(2) if out else levels
        given = query, key, value, *_added(query, bias, gaps, times), reach, grad, levels, means
        with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
            found = _gradients(given, bias, gaps, ctx.sizes)
        return (*found, *(None,) * 6)


def _added(query: Tensor, bias: Tensor | None, gaps: Tensor | None, times: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return what kernels read of the biases: by place, by time, and the times of queries and keys; anything for one
    that there is not.
    """
    place = query if bias is None else bias.contiguous()
    time = [query] * 3 if gaps is None else [gaps.float().contiguous(), *(part.contiguous() for part in times)]
    return place, *time


def _gradients(
    given: tuple[Tensor, ...], bias: Tensor | None, gaps: Tensor | None, sizes: dict[str, Any]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of query, key, value and both biases; given: what every backward kernel reads."""
    from recdistill.models.attention import triton_kernels

    query, key, value, *_ = given
    rows, n, m = len(query), query.shape[1], key.shape[1]
    to_query, to_key, to_value = (torch.zeros_like(part) for part in (query, key, value))
    to_bias, to_gaps = (None if part is None else torch.zeros_like(part) for part in (bias, gaps))
    if not (rows and n and m):
        return to_query, to_key, to_value, to_bias, to_gaps
    triton_kernels.backward_query[(rows * -(-n // sizes["QS"]),)](*given, to_query, **sizes)
    triton_kernels.backward_key[(rows * -(-m // sizes["KS"]),)](*given, to_key, to_value, **sizes)
    if to_bias is not None:
        tiles, parts = _groups(rows, sizes)
        sums = torch.empty(parts, *to_bias.shape, dtype=torch.float32, device=query.device)
        triton_kernels.backward_bias[(tiles, sizes["heads"], parts)](*given, sums, rows, **sizes)
        to_bias = sums.sum(0).to(to_bias.dtype)
    if to_gaps is not None:
        heads, pieces = len(to_gaps), rows // sizes["heads"] * -(-n // sizes["QS"])
        parts = max(1, min(pieces, PROGRAMS // heads))
        sums = torch.empty(parts, *to_gaps.shape, dtype=torch.float32, device=query.device)
        triton_kernels.backward_gaps[(heads, parts)](*given, sums, rows, **sizes)
        to_gaps = sums.sum(0).to(to_gaps.dtype)
    return to_query, to_key, to_value, to_bias, to_gaps


def fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    time: TimeBias | None = None,
    *,
    heads: int,
    band: int | None,
    alive: Sequence[int] | None,
    softmax: bool,
    block: int,
) -> Tensor:
    """Return what `attend` does, for tensors that `serves` accepts; block: its BLOCK, queries per number of
    `alive`.

    A softmax query without any key gives 0.
    """
    gaps, times = (None, ()) if time is None else (time.table, time[1:])
    out = _Fused.apply(query, key, value, bias, gaps, times, heads, band, alive, softmax, block)  # type: ignore[no-untyped-call]
    return torch.as_tensor(out)
