"""Starts the Triton kernels that move a table's rows in a GPU's memory, one pass over each row; see triton_rows.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

__all__ = ["Moved", "RowState", "adagrad", "adam", "serves"]

NUMBERS = 2048  # that a program works on
WIDEST = 4096  # of a row


@dataclass(frozen=True)
class RowState:
    """All rows of a table: weight, first float32 [n, D], second [n, D] or [n, 1], steps int32 [n]."""

    weight: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor


@dataclass(frozen=True)
class Moved:
    """The entries of a step: rows int64 [N], gradient float32 [N, D], wanted bool [N]: no row is wanted twice."""

    rows: Tensor
    gradient: Tensor
    wanted: Tensor


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def serves(device: torch.device, width: int) -> bool:
    """Return whether the kernels move rows of this width on a device: CUDA with Triton."""
    return device.type == "cuda" and width <= WIDEST and _installed()


def _sizes(width: int) -> dict[str, int]:
    """Return the widths that kernels are compiled for."""
    padded = 1 << max(width - 1, 0).bit_length()
    return {"D": width, "DP": padded, "ROWS": max(1, NUMBERS // padded)}


def _given(moved: Moved) -> tuple[Tensor, Tensor, Tensor]:
    return moved.rows.contiguous(), moved.gradient.contiguous(), moved.wanted.contiguous()


def adam(
    state: RowState, moved: Moved, scale: Tensor, epsilon: Tensor, keep: float, betas: tuple[float, float]
) -> None:
    """Move rows by lazy Adam, in place; scale, epsilon: float32 factors by number of steps, see `GrowableTable`; keep:
    what is left of a weight before it moves.
    """
    from recdistill.models.embeddings import triton_rows

    count, sizes = len(moved.rows), _sizes(state.weight.shape[1])
    if not count:
        return
    tables = state.weight, state.first, state.second, state.steps
    with torch.cuda.device_of(state.weight):  # type: ignore[no-untyped-call]
        triton_rows.adam_rows[(-(-count // sizes["ROWS"]),)](
            *tables, *_given(moved), scale, epsilon, count, keep, B1=betas[0], B2=betas[1], **sizes
        )


def adagrad(state: RowState, moved: Moved, rate: float, epsilon: float, keep: float) -> None:
    """Move rows by row-wise Adagrad, in place."""
    from recdistill.models.embeddings import triton_rows

    count, sizes = len(moved.rows), _sizes(state.weight.shape[1])
    if not count:
        return
    tables = state.weight, state.second, state.steps
    with torch.cuda.device_of(state.weight):  # type: ignore[no-untyped-call]
        triton_rows.adagrad_rows[(-(-count // sizes["ROWS"]),)](
            *tables, *_given(moved), count, rate, keep, EPSILON=epsilon, **sizes
        )
