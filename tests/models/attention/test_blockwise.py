"""Attention by blocks equals attention pair by pair, forward and backward, and never makes a matrix of all pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.batch.ages import GAPS
from recdistill.models.attention import blockwise
from recdistill.models.attention.blockwise import attend, band_bias
from recdistill.models.attention.time_bias import TimeBias
from tests.support.attention_reference import bucket, pairwise


def inputs(rows: int, length: int, width: int, heads: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    parts = [torch.randn(rows * heads, length, width, dtype=dtype).requires_grad_() for _ in range(3)]
    return [*parts, torch.randn(heads, 6, dtype=dtype).requires_grad_()]


def times(rows: int, length: int) -> torch.Tensor:
    """Us before the samples, oldest first, from under a second to some years."""
    return (10 ** (torch.rand(rows, length, dtype=torch.float64) * 10 + 5)).long().sort(1, descending=True)[0]


def by_time(table: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """[N, n, m] of [H, GAPS], [R, n], [R, m], pair by pair."""
    where = [[[bucket(int(k - q)) for k in theirs] for q in mine] for mine, theirs in zip(query, key, strict=True)]
    return table[:, torch.tensor(where)].transpose(0, 1).flatten(0, 1)


def dense(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    distance: torch.Tensor,
    band: int,
    softmax: bool,
    added: torch.Tensor | None = None,
) -> torch.Tensor:
    length, heads = query.shape[1], len(distance)
    apart = torch.arange(length)[:, None] - torch.arange(length)
    bias, may = distance[:, apart.clamp(0, distance.shape[1] - 1)], (apart >= 0) & (apart < band)
    bias = bias.repeat(len(query) // heads, 1, 1) + (0 if added is None else added)
    return torch.stack([pairwise(query[n], key[n], value[n], bias[n], may, softmax) for n in range(len(query))])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 23),
    st.integers(1, 3),
    st.integers(1, 25),
    st.sampled_from([1, 4, 7, 128]),
    st.sampled_from([1, 30, 1 << 18]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_blocks_equal_pairs(
    rows: int, length: int, heads: int, band: int, block: int, tile: int, softmax: bool, timed: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    given_, band = inputs(rows, length, 3, heads), min(band, length)
    ago = times(rows, length)
    given_ += [torch.randn(heads, GAPS, dtype=torch.float64, requires_grad=True)] * timed
    pull = torch.randn(rows * heads, length, 3, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockwise, "BLOCK", block)
        patch.setattr(blockwise, "TILE", tile)
        near, time = band_bias(given_[3], length, band), TimeBias(given_[4], ago, ago) if timed else None
        fast = attend(*given_[:3], near, time, heads=heads, band=band, softmax=softmax)
        fast_grads = torch.autograd.grad(fast, given_, pull)
    added = by_time(given_[4], ago, ago) if timed else None
    plain = dense(*given_[:4], band, softmax, added)  # type: ignore[call-arg]
    torch.testing.assert_close(fast, plain)
    for one, other in zip(fast_grads, torch.autograd.grad(plain, given_, pull), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("tile", [1, 1 << 18])
def test_every_query_sees_all_keys_without_a_band(softmax: bool, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "TILE", tile)
    torch.manual_seed(0)
    query, key, value = (torch.randn(4, n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 11, 11))
    bias = torch.randn(2, 5, 11, dtype=torch.float64, requires_grad=True)
    fast = attend(query, key, value, bias, heads=2, softmax=softmax)
    plain = torch.stack(
        [
            pairwise(query[n], key[n], value[n], bias[n % 2], torch.ones(5, 11, dtype=torch.bool), softmax)
            for n in range(4)
        ]
    )
    torch.testing.assert_close(fast, plain)
    for one, other in zip(
        torch.autograd.grad(fast.sum(), [query, key, value, bias]),
        torch.autograd.grad(plain.sum(), [query, key, value, bias]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_histories_that_have_ended_give_nothing_and_change_nothing() -> None:
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockwise, "BLOCK", 4)
        query, key, value, distance = inputs(3, 10, 2, 2)
        bias = band_bias(distance, 10, 3)
        full = attend(query, key, value, bias, heads=2, band=3)
        some = attend(query, key, value, bias, heads=2, band=3, alive=(3, 2, 1))
    ends = torch.tensor([10, 8, 4]).repeat_interleave(2)
    kept = torch.arange(10) < ends[:, None]
    assert torch.equal(some, full * kept.unsqueeze(2))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("length", [1, 127, 509])
def test_a_prime_length_in_short_numbers(length: int, dtype: torch.dtype, error: float) -> None:
    torch.manual_seed(0)
    exact = inputs(1, length, 16, 2)
    short = [part.detach().to(dtype).requires_grad_() for part in exact]
    pull = torch.randn(2, length, 16, dtype=torch.float64)
    band = min(64, length)
    plain = dense(*exact, band, False)  # type: ignore[call-arg]
    fast = attend(*short[:3], band_bias(short[3], length, band), heads=2, band=band)
    assert float((fast.double() - plain).detach().norm() / plain.detach().norm()) < error
    for one, other in zip(
        torch.autograd.grad(fast, short, pull.to(dtype)), torch.autograd.grad(plain, exact, pull), strict=True
    ):
        assert float((one.double() - other).norm() / other.norm()) < error


def test_twenty_thousand_events_never_meet_in_one_matrix() -> None:
    """The largest tensor made on the way is far below L x L, and what is kept for the backward pass is linear in L."""
    length, band = 20_000, 64
    query, key, value, distance = inputs(1, length, 4, 1, torch.float32)
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
        ago = times(1, length)
        time = TimeBias(torch.randn(1, GAPS, requires_grad=True), ago, ago)
        out = attend(query, key, value, band_bias(distance, length, band), time, heads=1, band=band)
    out.sum().backward()
    assert (
        out.shape == (1, length, 4) and out.isfinite().all() and query.grad is not None and query.grad.isfinite().all()
    )
    assert max(sizes) <= length * 4
    added = by_time(time.table, ago[:, :200], ago[:, :200])
    first = dense(query[:, :200], key[:, :200], value[:, :200], distance, band, False, added)
    torch.testing.assert_close(out[:, :200].double(), first, rtol=1e-3, atol=1e-4)


def test_what_many_tiles_add_in_short_numbers_is_not_lost() -> None:
    torch.manual_seed(0)
    parts, grad = [torch.rand(1, 4096, 8) * 0.3 for _ in range(3)], torch.rand(1, 4096, 8)

    def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [part.to(dtype, copy=True).requires_grad_() for part in parts]
        attend(*leaves, heads=1, band=4096).backward(grad.to(dtype))
        return [leaf.grad.double() for leaf in leaves]

    for short, exact in zip(gradients(torch.bfloat16), gradients(torch.float64), strict=True):
        assert (short - exact).norm() < 0.003 * exact.norm()  # 0.005 when they are added up in bfloat16
