"""Attention inside a history by blocks, forward and backward: no matrix of L x L is ever made, memory is linear in L.

Shapes: R histories, H heads, N = R * H, L events, n queries, m keys, d width of a head, e = d plus what biases add to
it. A tile is some rows, some queries, and all the keys that those may look at; its scores are computed again for the
backward pass. On CUDA the same is done by fused kernels where it can be (triton_op.py); everywhere else, and for
float64, by the blocks here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from recdistill.models.attention.target_ops import EMPTY
from recdistill.models.attention.time_bias import TimeBias, add_slopes, add_time, buckets_between
from recdistill.models.attention.triton_op import fused, serves

__all__ = ["BLOCK", "attend", "band_bias"]

BLOCK = 128  # queries of a tile
TILE = 1 << 18  # scores of a tile, 1 MiB: what a cache holds from the first product to the last


class _Tile(NamedTuple):
    rows: slice
    queries: slice
    keys: slice
    bias: tuple[slice, slice]


def _tiles(rows: int, n: int, m: int, heads: int, band: int | None, alive: Sequence[int] | None) -> Iterator[_Tile]:
    """Yield the tiles of n queries and m keys; band None: every query sees all keys."""
    block = max(1, min(BLOCK, n)) if band is not None else max(1, min(n, TILE // max(1, m * heads)))
    for at, start in enumerate(range(0, n, block)):
        queries = slice(start, min(start + block, n))
        size = queries.stop - start
        if band is None:
            keys, bias = slice(0, m), (queries, slice(0, m))
        else:
            first = max(0, start - band + 1)
            keys = slice(first, queries.stop)
            bias = slice(0, size), slice(first - start + band - 1, size + band - 1)
        last = rows if alive is None else alive[at] * heads
        step = max(1, TILE // max(1, size * (keys.stop - keys.start) * heads)) * heads
        for row in range(0, last, step):
            yield _Tile(slice(row, min(row + step, last)), queries, keys, bias)


def _scores(
    query: Tensor, key: Tensor, bias: Tensor | None, table: Tensor | None, buckets: Tensor | None, tile: _Tile
) -> Tensor:
    scores = torch.bmm(query[tile.rows, tile.queries], key[tile.rows, tile.keys].transpose(1, 2))
    if bias is not None:
        heads, n, m = len(bias), scores.shape[1], scores.shape[2]
        scores.view(-1, heads, n, m).add_(bias[:, tile.bias[0], tile.bias[1]])
    if table is not None and buckets is not None:
        add_time(scores, table, buckets)
    return scores


def _buckets(times: Sequence[Tensor], heads: int, tile: _Tile) -> Tensor | None:
    """Return the buckets of the time between the events of a tile's pairs, one head's; None without times."""
    if not times:
        return None
    rows = slice(None) if tile.rows.start is None else slice(tile.rows.start // heads, tile.rows.stop // heads)
    return buckets_between(times[0][rows, tile.queries], times[1][rows, tile.keys])


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        table: Tensor | None,
        times: Sequence[Tensor],
        heads: int,
        band: int | None,
        alive: Sequence[int] | None,
        softmax: bool,
    ) -> Tensor:
        out = value.new_zeros(len(query), query.shape[1], value.shape[2])
        for tile in _tiles(len(query), query.shape[1], key.shape[1], heads, band, alive):
            scores = _scores(query, key, bias, table, _buckets(times, heads, tile), tile)
            weights = scores.softmax(2) if softmax else functional.silu(scores, inplace=True)
            out[tile.rows, tile.queries] = torch.bmm(weights, value[tile.rows, tile.keys])
        ctx.save_for_backward(query, key, value, bias, table, *times)
        ctx.shape = heads, band, alive, softmax
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, table, *times = ctx.saved_tensors
        heads, band, alive, softmax = ctx.shape
        to_query, to_key, to_value = torch.zeros_like(query), _sums(key), _sums(value)
        to_bias = None if bias is None else _sums(bias)
        to_table = None if table is None else _sums(table)
        for tile in _tiles(len(query), query.shape[1], key.shape[1], heads, band, alive):
            rows, queries, keys = tile.rows, tile.queries, tile.keys
            buckets, pull = _buckets(times, heads, tile), grad[rows, queries]
            scores = _scores(query, key, bias, table, buckets, tile)
            weights = scores.softmax(2) if softmax else functional.silu(scores)
            to_value[rows, keys] += torch.bmm(weights.transpose(1, 2), pull)
            to_weights = torch.bmm(pull, value[rows, keys].transpose(1, 2))
            if softmax:
                to_weights -= (to_weights * weights).sum(2, keepdim=True)
                to_scores = to_weights.mul_(weights)
            else:
                to_scores = torch.ops.aten.silu_backward(to_weights, scores)
            to_query[rows, queries] = torch.bmm(to_scores, key[rows, keys])
            to_key[rows, keys] += torch.bmm(to_scores.transpose(1, 2), query[rows, queries])
            if to_bias is not None:
                by_head = to_scores.view(-1, heads, *to_scores.shape[1:])
                to_bias[:, tile.bias[0], tile.bias[1]] += by_head.sum(0)
            if to_table is not None and buckets is not None:
                add_slopes(to_table, to_scores, buckets)
        to_bias = None if bias is None or to_bias is None else to_bias.to(bias.dtype)
        to_table = None if table is None or to_table is None else to_table.to(table.dtype)
        return to_query, to_key.to(key.dtype), to_value.to(value.dtype), to_bias, to_table, *(None,) * 5


def _sums(like: Tensor) -> Tensor:
    """Return zeros to add up in: short numbers would lose what many tiles add."""
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    time: TimeBias | None = None,
    *,
    heads: int,
    band: int | None = None,
    alive: Sequence[int] | None = None,
    softmax: bool = False,
) -> Tensor:
    """Return [N, n, d]: SiLU(Q K^T + bias + time) V (HSTU, 2402.17152, equation 2), or softmax in place of SiLU.

    query [N, n, e], key [N, m, e], value [N, m, d]; the heads of a history stand side by side in N. band: each query
    sees itself and the band - 1 keys before it (n = m), and bias is [H, BLOCK or n, ...] of `band_bias`; None: each
    sees every key, and bias is [H, n, m]. EMPTY in the bias hides a pair; without a bias nothing is added, and without
    `time` nothing by the time between two events. alive: per block of BLOCK queries, how many histories reach it, where
    they stand longest first; the others' queries give 0.
    """
    if serves(query.device.type, (query, key, value)):
        return fused(query, key, value, bias, time, heads=heads, band=band, alive=alive, softmax=softmax, block=BLOCK)
    if bias is None and band is not None:
        bias = band_bias(query.new_zeros(heads, 1), query.shape[1], band)
    if torch.compiler.is_exporting():
        return _in_graph(query, key, value, bias, time, heads, band, softmax)
    table, times = (None, ()) if time is None else (time.table, time[1:])
    out = _Attend.apply(query, key, value, bias, table, times, heads, band, alive, softmax)  # type: ignore[no-untyped-call]
    return torch.as_tensor(out)


def _in_graph(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    time: TimeBias | None,
    heads: int,
    band: int | None,
    softmax: bool,
) -> Tensor:
    """Return what `attend` does, of any number of histories, and without a band of queries: a tile holds all."""
    table, times = (None, ()) if time is None else (time.table, time[1:])
    every = slice(None)
    tiles = [_Tile(every, every, every, (every, every))]
    if band is not None:
        found = _tiles(heads, query.shape[1], query.shape[1], heads, band, None)
        tiles = [tile._replace(rows=every) for tile in found]
    parts = []
    for tile in tiles:
        scores = _scores(query, key, bias, table, _buckets(times, heads, tile), tile)
        weights = scores.softmax(2) if softmax else functional.silu(scores)
        parts.append(torch.bmm(weights, value[:, tile.keys]))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def band_bias(by_distance: Tensor, length: int, band: int) -> Tensor:
    """Return [H, b, b + band - 1], b = min(BLOCK, length): what a block of queries adds to its scores with the keys
    from band - 1 before its first to its last: by_distance [H, S], by how many events lie between, the last for all
    farther ones.
    """
    size = min(BLOCK, length)
    apart = (
        torch.arange(size, device=by_distance.device)[:, None]
        + band
        - 1
        - torch.arange(size + band - 1, device=by_distance.device)
    )
    seen = (apart >= 0) & (apart < band)
    at = apart.clamp(0, by_distance.shape[1] - 1)
    rows = by_distance.index_select(1, at.view(-1)).view(-1, *at.shape)
    return rows.masked_fill(~seen, EMPTY)
