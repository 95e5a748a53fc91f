"""The Triton kernels of fused attention; triton_op.py starts them. Shapes as in blockwise.py; everything is row-major
and added up in float32.

One row of N stands for one head of one history. A program works on `QS` queries and `KS` keys at a time; E and D are
the widths of a head, EP and DP the powers of two they are padded to. reach: int32 [R], how many queries of a history
count. table: the bias, [H, block, columns] for a band, whose corner lies `band - 1` keys before its block's first
query, or [H, n, columns = m].
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

__all__ = ["backward_bias", "backward_key", "backward_query", "forward"]

LOW = tl.constexpr(-1e30)  # below every score, and still finite: no infinity is ever subtracted from another
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def _dot(a, b):
    """Return the product, float32. Triton's interpreter takes bfloat16 for integers; in float32 its
    products are exact as well.
    """
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _rows(x, at, count, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Return the rows `at` of x [count, WIDTH], with zeros where there are none."""
    column = tl.arange(0, PADDED)[None, :]
    real = (at[:, None] >= 0) & (at[:, None] < count) & (column < WIDTH)
    return tl.load(x + at[:, None] * WIDTH + column, mask=real, other=0.0)


@triton.jit
def _write(x, at, count, rows, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Write `rows` to the rows `at` of x [count, WIDTH]."""
    column = tl.arange(0, PADDED)[None, :]
    tl.store(
        x + at[:, None] * WIDTH + column, rows.to(x.dtype.element_ty), mask=(at[:, None] < count) & (column < WIDTH)
    )


@triton.jit
def _pairs(query, key, q, k, table, end, m, band, block, columns, BANDED: tl.constexpr, BIASED: tl.constexpr):
    """Return the scores of queries q with keys k, and which of those pairs exist; the scores of the
    others have no meaning.
    """
    scores = _dot(query, tl.trans(key))
    row, column = q[:, None], k[None, :]
    see = (row < end) & (column >= 0) & (column < m)
    if BANDED:
        see = see & (row >= column) & (row - column < band)
        base = row // block * block
        row, column = row - base, column - base + (band - 1)
    if BIASED:
        scores += tl.load(table + row * columns + column, mask=see, other=0.0).to(tl.float32)
    return scores, see


@triton.jit
def _numbers(x, at, count, WANTED: tl.constexpr):
    """Return the numbers `at` of x [count]; zeros, and nothing is read, unless they are wanted."""
    return tl.load(x + at, mask=(at < count) & WANTED, other=0.0)


@triton.jit
def _slopes(scores, see, pull, level, mean, SOFTMAX: tl.constexpr):
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


@triton.jit
def forward(
    query,
    key,
    value,
    table,
    reach,
    out,
    levels,
    n,
    m,
    heads,
    band,
    block,
    columns,
    size,
    E: tl.constexpr,
    D: tl.constexpr,
    EP: tl.constexpr,
    DP: tl.constexpr,
    QS: tl.constexpr,
    KS: tl.constexpr,
    BANDED: tl.constexpr,
    BIASED: tl.constexpr,
    SOFTMAX: tl.constexpr,
):
    """Write out [N, n, D] and, for softmax, levels [N, n]; one program per row of N and QS queries. The
    softmax is made on the way.
    """
    row, start = (tl.program_id(0) // tl.cdiv(n, QS)).to(tl.int64), tl.program_id(0) % tl.cdiv(n, QS) * QS
    end = tl.load(reach + row // heads)
    if start >= end:
        return
    q = start + tl.arange(0, QS)
    mine, table = _rows(query + row * n * E, q, n, E, EP), table + row % heads * size * columns
    best, total = tl.full([QS], LOW, tl.float32), tl.full([QS], 0.0, tl.float32)
    attended = tl.full([QS, DP], 0.0, tl.float32)
    first, last = 0, m
    if BANDED:
        first, last = tl.maximum(start - band + 1, 0) // KS * KS, tl.minimum(start + QS, end)
    for at in range(first, last, KS):
        k = at + tl.arange(0, KS)
        scores, see = _pairs(
            mine, _rows(key + row * m * E, k, m, E, EP), q, k, table, end, m, band, block, columns, BANDED, BIASED
        )
        if SOFTMAX:
            scores = tl.where(see, scores, LOW)
            better = tl.maximum(best, tl.max(scores, 1))
            weights, fade = tl.where(see, tl.exp(scores - better[:, None]), 0.0), tl.exp(best - better)
            best, total, attended = better, total * fade + tl.sum(weights, 1), attended * fade[:, None]
        else:
            weights = tl.where(see, scores / (1.0 + tl.exp(-scores)), 0.0)
        theirs = _rows(value + row * m * D, k, m, D, DP)
        attended += _dot(weights.to(theirs.dtype), theirs)
    if SOFTMAX:
        total = tl.where(total > 0.0, total, 1.0)
        attended = attended / total[:, None]
        tl.store(levels + row * n + q, best + tl.log(total), mask=q < n)
    _write(out + row * n * D, q, n, attended, D, DP)


@triton.jit
def backward_query(
    query,
    key,
    value,
    table,
    reach,
    grad,
    levels,
    means,
    to_query,
    n,
    m,
    heads,
    band,
    block,
    columns,
    size,
    E: tl.constexpr,
    D: tl.constexpr,
    EP: tl.constexpr,
    DP: tl.constexpr,
    QS: tl.constexpr,
    KS: tl.constexpr,
    BANDED: tl.constexpr,
    BIASED: tl.constexpr,
    SOFTMAX: tl.constexpr,
):
    """Write to_query [N, n, E] of grad [N, n, D]; one program per row of N and QS queries."""
    row, start = (tl.program_id(0) // tl.cdiv(n, QS)).to(tl.int64), tl.program_id(0) % tl.cdiv(n, QS) * QS
    end = tl.load(reach + row // heads)
    if start >= end:
        return
    q = start + tl.arange(0, QS)
    mine, table = _rows(query + row * n * E, q, n, E, EP), table + row % heads * size * columns
    out_grad = _rows(grad + row * n * D, q, n, D, DP)
    level, mean = _numbers(levels + row * n, q, n, SOFTMAX), _numbers(means + row * n, q, n, SOFTMAX)
    found = tl.full([QS, EP], 0.0, tl.float32)
    first, last = 0, m
    if BANDED:
        first, last = tl.maximum(start - band + 1, 0) // KS * KS, tl.minimum(start + QS, end)
    for at in range(first, last, KS):
        k = at + tl.arange(0, KS)
        theirs = _rows(key + row * m * E, k, m, E, EP)
        scores, see = _pairs(mine, theirs, q, k, table, end, m, band, block, columns, BANDED, BIASED)
        pull = _dot(out_grad, tl.trans(_rows(value + row * m * D, k, m, D, DP)))
        _, slopes = _slopes(scores, see, pull, level, mean, SOFTMAX)
        found += _dot(slopes.to(theirs.dtype), theirs)
    _write(to_query + row * n * E, q, n, found, E, EP)


@triton.jit
def backward_key(
    query,
    key,
    value,
    table,
    reach,
    grad,
    levels,
    means,
    to_key,
    to_value,
    n,
    m,
    heads,
    band,
    block,
    columns,
    size,
    E: tl.constexpr,
    D: tl.constexpr,
    EP: tl.constexpr,
    DP: tl.constexpr,
    QS: tl.constexpr,
    KS: tl.constexpr,
    BANDED: tl.constexpr,
    BIASED: tl.constexpr,
    SOFTMAX: tl.constexpr,
):
    """Write to_key [N, m, E] and to_value [N, m, D]; one program per row of N and KS keys, over the queries
    that may look at them.
    """
    row, start = (tl.program_id(0) // tl.cdiv(m, KS)).to(tl.int64), tl.program_id(0) % tl.cdiv(m, KS) * KS
    end, k = tl.load(reach + row // heads), start + tl.arange(0, KS)
    mine, own = _rows(key + row * m * E, k, m, E, EP), _rows(value + row * m * D, k, m, D, DP)
    table += row % heads * size * columns
    found, value_grad = tl.full([KS, EP], 0.0, tl.float32), tl.full([KS, DP], 0.0, tl.float32)
    first, last = 0, end
    if BANDED:
        first, last = start // QS * QS, tl.minimum(start + KS + band - 1, end)
    for at in range(first, last, QS):
        q = at + tl.arange(0, QS)
        theirs, out_grad = _rows(query + row * n * E, q, n, E, EP), _rows(grad + row * n * D, q, n, D, DP)
        scores, see = _pairs(theirs, mine, q, k, table, end, m, band, block, columns, BANDED, BIASED)
        level, mean = _numbers(levels + row * n, q, n, SOFTMAX), _numbers(means + row * n, q, n, SOFTMAX)
        pull = _dot(out_grad, tl.trans(own))
        weights, slopes = _slopes(scores, see, pull, level, mean, SOFTMAX)
        value_grad += _dot(tl.trans(weights.to(out_grad.dtype)), out_grad)
        found += _dot(tl.trans(slopes.to(theirs.dtype)), theirs)
    _write(to_key + row * m * E, k, m, found, E, EP)
    _write(to_value + row * m * D, k, m, value_grad, D, DP)


@triton.jit
def backward_bias(
    query,
    key,
    value,
    table,
    reach,
    grad,
    levels,
    means,
    parts,
    rows,
    n,
    m,
    heads,
    band,
    block,
    columns,
    size,
    E: tl.constexpr,
    D: tl.constexpr,
    EP: tl.constexpr,
    DP: tl.constexpr,
    QS: tl.constexpr,
    KS: tl.constexpr,
    BANDED: tl.constexpr,
    BIASED: tl.constexpr,
    SOFTMAX: tl.constexpr,
):
    """Write parts [G, H, size, columns], float32: what the g-th, (g + G)-th ... of histories and their blocks add to
    the table's gradient. One program per QS x KS of the table, head and g; no other program writes there, so that sums
    are always made in one order.
    """
    across, head, part = tl.cdiv(columns, KS), tl.program_id(1), tl.program_id(2)
    i, j = tl.program_id(0) // across * QS + tl.arange(0, QS), tl.program_id(0) % across * KS + tl.arange(0, KS)
    blocks = tl.cdiv(n, block)
    found = tl.full([QS, KS], 0.0, tl.float32)
    for block_row in range(part, rows // heads * blocks, tl.num_programs(2)):
        row, base = (block_row // blocks * heads + head).to(tl.int64), block_row % blocks * block
        end = tl.load(reach + row // heads)
        q, k = base + i, j
        if BANDED:
            k = base + j - (band - 1)
        mine, out_grad = _rows(query + row * n * E, q, n, E, EP), _rows(grad + row * n * D, q, n, D, DP)
        theirs, own = _rows(key + row * m * E, k, m, E, EP), _rows(value + row * m * D, k, m, D, DP)
        scores, see = _pairs(
            mine, theirs, q, k, table + head * size * columns, end, m, band, block, columns, BANDED, BIASED
        )
        level, mean = _numbers(levels + row * n, q, n, SOFTMAX), _numbers(means + row * n, q, n, SOFTMAX)
        _, slopes = _slopes(scores, see, _dot(out_grad, tl.trans(own)), level, mean, SOFTMAX)
        found += slopes
    parts += (part * heads + head).to(tl.int64) * size * columns
    tl.store(parts + i[:, None] * columns + j[None, :], found, mask=(i[:, None] < size) & (j[None, :] < columns))
