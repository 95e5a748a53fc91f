"""The Triton kernels that move the rows of a table that lies in a GPU's memory; fused_rows.py starts them.

A program works on ROWS entries of a step: entry i moves row `rows`[i] by `gradient`[i] where `wanted`[i], all of that
row's state in one pass. No row is wanted twice, so nothing is added atomically, and the same inputs give the same bits.
D is the width of a row, DP the power of two it is padded to; steps: int32, how many steps have moved each row.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["adam_rows", "adagrad_rows"]


@triton.jit
def entries(rows, gradient, wanted, steps, count, D: tl.constexpr, DP: tl.constexpr, ROWS: tl.constexpr):
    """Return of a program's entries: row, whether it moves, its number of steps by now (written too), the places of its
    numbers, which of them there are, and their gradients.
    """
    at, column = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, DP)[None, :]
    moves = tl.load(wanted + at, mask=at < count, other=0) != 0
    row = tl.load(rows + at, mask=moves, other=0)
    step = tl.load(steps + row, mask=moves, other=0) + 1
    tl.store(steps + row, step, mask=moves)
    real = moves[:, None] & (column < D)
    pull = tl.load(gradient + at[:, None] * D + column, mask=real, other=0.0)
    return row, moves, step, row[:, None] * D + column, real, pull


@triton.jit
def adam_rows(
    weight,
    first,
    second,
    steps,
    rows,
    gradient,
    wanted,
    scale,
    epsilon,
    count,
    keep,
    B1: tl.constexpr,
    B2: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Lazy Adam; scale, epsilon: float32, its factors by number of steps; keep: what decay leaves of a weight."""
    _, moves, step, place, real, pull = entries(rows, gradient, wanted, steps, count, D, DP, ROWS)
    mean = tl.load(first + place, mask=real, other=0.0)
    mean += (pull - mean) * (1 - B1)
    square = tl.load(second + place, mask=real, other=0.0) * B2 + pull * pull * (1 - B2)
    by, least = tl.load(scale + step, mask=moves, other=0.0), tl.load(epsilon + step, mask=moves, other=1.0)
    own = tl.load(weight + place, mask=real, other=0.0) * keep
    own += mean / (tl.sqrt(square) + least[:, None]) * by[:, None]
    tl.store(weight + place, own, mask=real)
    tl.store(first + place, mean, mask=real)
    tl.store(second + place, square, mask=real)


@triton.jit
def adagrad_rows(
    weight,
    second,
    steps,
    rows,
    gradient,
    wanted,
    count,
    rate,
    keep,
    EPSILON: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Row-wise Adagrad: one accumulator per row, the mean square of its gradient."""
    row, moves, _, place, real, pull = entries(rows, gradient, wanted, steps, count, D, DP, ROWS)
    total = tl.load(second + row, mask=moves, other=0.0) + tl.sum(pull * pull, 1) / D
    tl.store(second + row, total, mask=moves)
    own = tl.load(weight + place, mask=real, other=0.0) * keep
    tl.store(weight + place, own - pull * rate / (tl.sqrt(total)[:, None] + EPSILON), mask=real)
