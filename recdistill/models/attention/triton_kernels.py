"""The Triton kernels of fused attention; triton_op.py starts them. Shapes as in blockwise.py; everything is row-major
and added up in float32.

One row of N stands for one head of one history. A program works on `QS` queries and `KS` keys at a time; E and D are
the widths of a head, EP and DP the powers of two they are padded to. reach: int32 [R], how many queries of a history
count. table: the bias, [H, block, columns] for a band, whose corner lies `band - 1` keys before its block's first
query, or [H, n, columns = m]. gaps: the time bias, float32 [H, GAPS], by the bucket (ages.py) of what lies between
`query_times` [R, n] and `key_times` [R, m], int64 us before the samples.
"""

from __future__ import annotations

import triton
import triton.language as tl

from recdistill.models.attention.triton_parts import (
    buckets_of,
    dot,
    key_range,
    load_numbers,
    load_rows,
    load_times,
    score_pairs,
    slopes_of,
    write_rows,
)

__all__ = ["backward_bias", "backward_gaps", "backward_key", "backward_query", "forward"]

PADDED = tl.constexpr(128)  # room for the buckets of time, a power of two
LOW = tl.constexpr(-1e30)  # below every score, and still finite: no infinity is ever subtracted from another


@triton.jit
def forward(
    query,
    key,
    value,
    table,
    gaps,
    query_times,
    key_times,
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
    GAPS: tl.constexpr,
):
    """Write out [N, n, D] and, for softmax, made on the way, levels [N, n]; one program per row of N and QS queries."""
    row, start = (tl.program_id(0) // tl.cdiv(n, QS)).to(tl.int64), tl.program_id(0) % tl.cdiv(n, QS) * QS
    end = tl.load(reach + row // heads)
    if start >= end:
        return
    q = start + tl.arange(0, QS)
    mine, table = load_rows(query + row * n * E, q, n, E, EP), table + row % heads * size * columns
    now, gaps = load_times(query_times + row // heads * n, q, n, GAPS), gaps + row % heads * GAPS
    best, total = tl.full([QS], LOW, tl.float32), tl.full([QS], 0.0, tl.float32)
    attended = tl.full([QS, DP], 0.0, tl.float32)
    first, last = key_range(start, end, m, band, QS, KS, BANDED)
    for at in range(first, last, KS):
        k = at + tl.arange(0, KS)
        then, theirs = load_times(key_times + row // heads * m, k, m, GAPS), load_rows(key + row * m * E, k, m, E, EP)
        scores, see = score_pairs(
            mine, theirs, q, k, table, gaps, now, then, end, m, band, block, columns, BANDED, BIASED, GAPS
        )
        if SOFTMAX:
            scores = tl.where(see, scores, LOW)
            better = tl.maximum(best, tl.max(scores, 1))
            weights, fade = tl.where(see, tl.exp(scores - better[:, None]), 0.0), tl.exp(best - better)
            best, total, attended = better, total * fade + tl.sum(weights, 1), attended * fade[:, None]
        else:
            weights = tl.where(see, scores / (1.0 + tl.exp(-scores)), 0.0)
        theirs = load_rows(value + row * m * D, k, m, D, DP)
        attended += dot(weights.to(theirs.dtype), theirs)
    if SOFTMAX:
        total = tl.where(total > 0.0, total, 1.0)
        attended = attended / total[:, None]
        tl.store(levels + row * n + q, best + tl.log(total), mask=q < n)
    write_rows(out + row * n * D, q, n, attended, D, DP)


@triton.jit
def backward_query(
    query,
    key,
    value,
    table,
    gaps,
    query_times,
    key_times,
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
    GAPS: tl.constexpr,
):
    """Write to_query [N, n, E] of grad [N, n, D]; one program per row of N and QS queries."""
    row, start = (tl.program_id(0) // tl.cdiv(n, QS)).to(tl.int64), tl.program_id(0) % tl.cdiv(n, QS) * QS
    end = tl.load(reach + row // heads)
    if start >= end:
        return
    q = start + tl.arange(0, QS)
    mine, table = load_rows(query + row * n * E, q, n, E, EP), table + row % heads * size * columns
    now, gaps = load_times(query_times + row // heads * n, q, n, GAPS), gaps + row % heads * GAPS
    out_grad = load_rows(grad + row * n * D, q, n, D, DP)
    level, mean = load_numbers(levels + row * n, q, n, SOFTMAX), load_numbers(means + row * n, q, n, SOFTMAX)
    found = tl.full([QS, EP], 0.0, tl.float32)
    first, last = key_range(start, end, m, band, QS, KS, BANDED)
    for at in range(first, last, KS):
        k = at + tl.arange(0, KS)
        then, theirs = load_times(key_times + row // heads * m, k, m, GAPS), load_rows(key + row * m * E, k, m, E, EP)
        scores, see = score_pairs(
            mine, theirs, q, k, table, gaps, now, then, end, m, band, block, columns, BANDED, BIASED, GAPS
        )
        pull = dot(out_grad, tl.trans(load_rows(value + row * m * D, k, m, D, DP)))
        _, slopes = slopes_of(scores, see, pull, level, mean, SOFTMAX)
        found += dot(slopes.to(theirs.dtype), theirs)
    write_rows(to_query + row * n * E, q, n, found, E, EP)


@triton.jit
def backward_key(
    query,
    key,
    value,
    table,
    gaps,
    query_times,
    key_times,
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
    GAPS: tl.constexpr,
):
    """Write to_key [N, m, E] and to_value [N, m, D]; one program per row of N and KS keys, over the queries
    that may look at them.
    """
    row, start = (tl.program_id(0) // tl.cdiv(m, KS)).to(tl.int64), tl.program_id(0) % tl.cdiv(m, KS) * KS
    end, k = tl.load(reach + row // heads), start + tl.arange(0, KS)
    mine, own = load_rows(key + row * m * E, k, m, E, EP), load_rows(value + row * m * D, k, m, D, DP)
    table += row % heads * size * columns
    then, gaps = load_times(key_times + row // heads * m, k, m, GAPS), gaps + row % heads * GAPS
    found, value_grad = tl.full([KS, EP], 0.0, tl.float32), tl.full([KS, DP], 0.0, tl.float32)
    first, last = 0, end
    if BANDED:
        first, last = start // QS * QS, tl.minimum(start + KS + band - 1, end)
    for at in range(first, last, QS):
        q = at + tl.arange(0, QS)
        theirs, out_grad = load_rows(query + row * n * E, q, n, E, EP), load_rows(grad + row * n * D, q, n, D, DP)
        now = load_times(query_times + row // heads * n, q, n, GAPS)
        scores, see = score_pairs(
            theirs, mine, q, k, table, gaps, now, then, end, m, band, block, columns, BANDED, BIASED, GAPS
        )
        level, mean = load_numbers(levels + row * n, q, n, SOFTMAX), load_numbers(means + row * n, q, n, SOFTMAX)
        pull = dot(out_grad, tl.trans(own))
        weights, slopes = slopes_of(scores, see, pull, level, mean, SOFTMAX)
        value_grad += dot(tl.trans(weights.to(out_grad.dtype)), out_grad)
        found += dot(tl.trans(slopes.to(theirs.dtype)), theirs)
    write_rows(to_key + row * m * E, k, m, found, E, EP)
    write_rows(to_value + row * m * D, k, m, value_grad, D, DP)


@triton.jit
def backward_bias(
    query,
    key,
    value,
    table,
    gaps,
    query_times,
    key_times,
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
    GAPS: tl.constexpr,
):
    """Write parts [G, H, size, columns], float32: what the g-th, (g + G)-th ... of histories and their blocks add to
    the table's gradient. One program per QS x KS of the table, head and g; no other program writes there, so that sums
    are always made in one order.
    """
    across, head, part = tl.cdiv(columns, KS), tl.program_id(1), tl.program_id(2)
    i, j = tl.program_id(0) // across * QS + tl.arange(0, QS), tl.program_id(0) % across * KS + tl.arange(0, KS)
    blocks = tl.cdiv(n, block)
    table, gaps = table + head * size * columns, gaps + head * GAPS
    found = tl.full([QS, KS], 0.0, tl.float32)
    for block_row in range(part, rows // heads * blocks, tl.num_programs(2)):
        row, base = (block_row // blocks * heads + head).to(tl.int64), block_row % blocks * block
        end = tl.load(reach + row // heads)
        q, k = base + i, j
        if BANDED:
            k = base + j - (band - 1)
        mine, out_grad = load_rows(query + row * n * E, q, n, E, EP), load_rows(grad + row * n * D, q, n, D, DP)
        theirs, own = load_rows(key + row * m * E, k, m, E, EP), load_rows(value + row * m * D, k, m, D, DP)
        now = load_times(query_times + row // heads * n, q, n, GAPS)
        then = load_times(key_times + row // heads * m, k, m, GAPS)
        scores, see = score_pairs(
            mine, theirs, q, k, table, gaps, now, then, end, m, band, block, columns, BANDED, BIASED, GAPS
        )
        level, mean = load_numbers(levels + row * n, q, n, SOFTMAX), load_numbers(means + row * n, q, n, SOFTMAX)
        _, slopes = slopes_of(scores, see, dot(out_grad, tl.trans(own)), level, mean, SOFTMAX)
        found += slopes
    parts += (part * heads + head).to(tl.int64) * size * columns
    tl.store(parts + i[:, None] * columns + j[None, :], found, mask=(i[:, None] < size) & (j[None, :] < columns))


@triton.jit
def backward_gaps(
    query,
    key,
    value,
    table,
    gaps,
    query_times,
    key_times,
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
    GAPS: tl.constexpr,
):
    """Write parts [G, H, GAPS], float32: what the g-th, (g + G)-th ... of histories and their QS queries add to the
    gradient of the time bias. One program per head and g; in a tile only the buckets that it has are looked at.
    """
    head, part, tiles = tl.program_id(0), tl.program_id(1), tl.cdiv(n, QS)
    table, gaps = table + head * size * columns, gaps + head * GAPS
    number, found = tl.arange(0, PADDED), tl.full([PADDED], 0.0, tl.float32)
    for piece in range(part, rows // heads * tiles, tl.num_programs(1)):
        row, start = (piece // tiles * heads + head).to(tl.int64), piece % tiles * QS
        end, q = tl.load(reach + row // heads), start + tl.arange(0, QS)
        mine, out_grad = load_rows(query + row * n * E, q, n, E, EP), load_rows(grad + row * n * D, q, n, D, DP)
        now = load_times(query_times + row // heads * n, q, n, GAPS)
        level, mean = load_numbers(levels + row * n, q, n, SOFTMAX), load_numbers(means + row * n, q, n, SOFTMAX)
        first, last = key_range(start, end, m, band, QS, KS, BANDED)
        for at in range(first, tl.where(start < end, last, first), KS):
            k = at + tl.arange(0, KS)
            then = load_times(key_times + row // heads * m, k, m, GAPS)
            theirs = load_rows(key + row * m * E, k, m, E, EP)
            scores, see = score_pairs(
                mine, theirs, q, k, table, gaps, now, then, end, m, band, block, columns, BANDED, BIASED, GAPS
            )
            pull = dot(out_grad, tl.trans(load_rows(value + row * m * D, k, m, D, DP)))
            _, slopes = slopes_of(scores, see, pull, level, mean, SOFTMAX)
            buckets = tl.where(see, buckets_of(now, then, GAPS), -1)
            lowest = tl.min(tl.min(tl.where(see, buckets, GAPS), 1), 0)
            for bucket in range(lowest, tl.max(tl.max(buckets, 1), 0) + 1):
                total = tl.sum(tl.sum(tl.where(buckets == bucket, slopes, 0.0), 1), 0)
                found += tl.where(number == bucket, total, 0.0)
    tl.store(parts + (part * heads + head).to(tl.int64) * GAPS + number, found, mask=number < GAPS)
