"""What the Triton kernels of fused attention are made of; shapes as in triton_kernels.py."""

from __future__ import annotations

import os

import triton
import triton.language as tl

from recdistill.data.batch.ages import GAP_STEP

__all__ = [
    "dot",
    "key_range",
    "buckets_of",
    "load_numbers",
    "score_pairs",
    "load_rows",
    "slopes_of",
    "load_times",
    "write_rows",
]

STEP = tl.constexpr(GAP_STEP)
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def dot(a, b):
    """Return the product, float32. Triton's interpreter takes bfloat16 for integers; in float32 its
    products are exact as well.
    """
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def load_rows(x, at, count, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Return the rows `at` of x [count, WIDTH], with zeros where there are none."""
    column = tl.arange(0, PADDED)[None, :]
    real = (at[:, None] >= 0) & (at[:, None] < count) & (column < WIDTH)
    return tl.load(x + at[:, None] * WIDTH + column, mask=real, other=0.0)


@triton.jit
def write_rows(x, at, count, rows, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Write `rows` to the rows `at` of x [count, WIDTH]."""
    column = tl.arange(0, PADDED)[None, :]
    tl.store(
        x + at[:, None] * WIDTH + column, rows.to(x.dtype.element_ty), mask=(at[:, None] < count) & (column < WIDTH)
    )


@triton.jit
def load_times(x, at, count, GAPS: tl.constexpr):
    """Return the times `at` of x [count]; none are read where there are no buckets of time."""
    return tl.load(x + at, mask=(at >= 0) & (at < count) & (GAPS > 0), other=0)


@triton.jit
def key_range(start, end, m, band, QS: tl.constexpr, KS: tl.constexpr, BANDED: tl.constexpr):
    """Return the first key that QS queries from `start` may look at, down to a step, and the end of them."""
    first, last = 0, m
    if BANDED:
        first, last = tl.maximum(start - band + 1, 0) // KS * KS, tl.minimum(start + QS, end)
    return first, last


@triton.jit
def buckets_of(mine, theirs, GAPS: tl.constexpr):
    """Return the buckets of the time between queries at `mine` and keys at `theirs`, us before the samples."""
    seconds = tl.maximum((theirs[None, :] - mine[:, None]).to(tl.float32) * 1e-6, 1.0)
    return tl.minimum((tl.log(seconds) / STEP).to(tl.int32), GAPS - 1)


@triton.jit
def score_pairs(
    query,
    key,
    q,
    k,
    table,
    gaps,
    mine,
    theirs,
    end,
    m,
    band,
    block,
    columns,
    BANDED: tl.constexpr,
    BIASED: tl.constexpr,
    GAPS: tl.constexpr,
):
    """Return the scores of queries q, at the times `mine`, with keys k, at `theirs`, and which of those pairs exist;
    the scores of the others have no meaning.
    """
    scores = dot(query, tl.trans(key))
    row, column = q[:, None], k[None, :]
    see = (row < end) & (column >= 0) & (column < m)
    if BANDED:
        see = see & (row >= column) & (row - column < band)
        base = row // block * block
        row, column = row - base, column - base + (band - 1)
    if BIASED:
        scores += tl.load(table + row * columns + column, mask=see, other=0.0).to(tl.float32)
    if GAPS > 0:
        scores += tl.load(gaps + buckets_of(mine, theirs, GAPS), mask=see, other=0.0)
    return scores, see


@triton.jit
def load_numbers(x, at, count, WANTED: tl.constexpr):
    """Return the numbers `at` of x [count]; zeros, and nothing is read, unless they are wanted."""
    return tl.load(x + at, mask=(at < count) & WANTED, other=0.0)


@triton.jit
def slopes_of(scores, see, pull, level, mean, SOFTMAX: tl.constexpr):
    """Return the weights and the gradients of the scores, of the gradients `pull` of the weights. level: the log of the
    sum of the exponentials of a query's scores; mean: the mean of `pull` under its weights.
    """
    if SOFTMAX:
        weights = tl.where(see, tl.exp(scores - level[:, None]), 0.0)
        slopes = weights * (pull - mean[:, None])
    else:
        gate = 1.0 / (1.0 + tl.exp(-scores))
        weights = tl.where(see, scores * gate, 0.0)
        slopes = tl.where(see, pull * gate * (1.0 + scores * (1.0 - gate)), 0.0)
    return weights, slopes
