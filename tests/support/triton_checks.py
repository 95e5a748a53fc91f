"""Fused attention equals attention pair by pair: what test_fused.py runs in a process of its own, in Triton's
interpreter, or on CUDA where there is one.

Stated tolerances, of the norm of what should be (or of 1, if that is less): float32 1e-5, float16 5e-3, bfloat16 3e-2;
softmax and SiLU, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from recdistill.data.batch.ages import GAPS, SECOND
from recdistill.models.attention import blockwise
from recdistill.models.attention.blockwise import attend, band_bias
from recdistill.models.attention.target_ops import EMPTY
from recdistill.models.attention.time_bias import TimeBias
from recdistill.models.attention.triton_op import fused
from recdistill.models.encoders import packed
from recdistill.models.encoders.hstu import HSTUStack
from recdistill.models.encoders.packed import sequences
from recdistill.models.encoders.transformer import TransformerStack
from tests.models.attention.test_blockwise import by_time, dense, times
from tests.support.attention_reference import pairwise

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
E, D = 5, 3  # of no power of two
ERROR = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def drawn(rows: int, n: int, m: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, key, value that learn; `dtype` holds them exactly."""
    torch.manual_seed(0)
    sizes = ((n, E), (m, E), (m, D))
    return [torch.randn(rows, *size, device=DEVICE).to(dtype).requires_grad_() for size in sizes]


def exact(parts: Sequence[Tensor]) -> list[Tensor]:
    return [part.detach().cpu().double().requires_grad_() for part in parts]


def agree(fast: Tensor, given: Sequence[Tensor], plain: Tensor, same: Sequence[Tensor]) -> None:
    """The values and, under random gradients, what each input receives."""
    error = ERROR[fast.dtype]
    pull = torch.randn(plain.shape, dtype=torch.float64)
    ours = torch.autograd.grad(fast, given, pull.to(fast)) if given else ()
    theirs = torch.autograd.grad(plain, same, pull) if same else ()
    for one, other in zip((fast, *ours), (plain, *theirs), strict=True):
        assert one.shape == other.shape
        assert float((one.detach().cpu().double() - other.detach()).norm()) <= error * max(
            1.0, float(other.detach().norm())
        )


def in_band(
    rows: int,
    length: int,
    heads: int,
    band: int,
    softmax: bool,
    dtype: torch.dtype = torch.float32,
    alive: Sequence[int] | None = None,
    ends: Sequence[int] | None = None,
    timed: bool = True,
) -> None:
    """Check a band with a bias by distance; ends: how many queries of each history `alive` leaves."""
    given = [
        *drawn(rows * heads, length, length, dtype),
        torch.randn(heads, 6, device=DEVICE).to(dtype).requires_grad_(),
        *[torch.randn(heads, GAPS, device=DEVICE).requires_grad_()] * timed,
    ]
    ago = times(rows, length)
    fast = fused(
        *given[:3],
        band_bias(given[3], length, band),
        TimeBias(given[4], ago.to(DEVICE), ago.to(DEVICE)) if timed else None,
        heads=heads,
        band=band,
        alive=alive,
        softmax=softmax,
        block=blockwise.BLOCK,
    )
    same = exact(given)
    plain = dense(*same[:4], band, softmax, by_time(same[4], ago, ago) if timed else None)  # type: ignore[call-arg]
    if ends is not None:
        kept = torch.arange(length) < torch.tensor(ends).repeat_interleave(heads)[:, None]
        plain = plain * kept.unsqueeze(2)
        assert not fast[~kept.to(DEVICE)].any()
    agree(fast, given, plain, same)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("length", [1, 127, 128, 129])
def test_a_band(length: int, softmax: bool) -> None:
    for timed in (True, False) if length == 129 else (True,):
        in_band(1, length, 2, min(20, length), softmax, timed=timed)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize(
    ("rows", "length", "heads", "band", "block"),
    [
        (2, 37, 3, 37, 16),
        (1, 40, 1, 1, 7),
        (3, 33, 2, 9, 128),
        (1, 70, 2, 64, 20),
    ],
)
def test_bands_of_every_width(
    rows: int, length: int, heads: int, band: int, block: int, softmax: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockwise, "BLOCK", block)
    in_band(rows, length, heads, band, softmax)


@pytest.mark.parametrize("softmax", [False, True])
def test_histories_that_have_ended_give_nothing(softmax: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    in_band(2, 140, 1, 30, softmax, alive=(2, 1), ends=(140, 128))
    monkeypatch.setattr(blockwise, "BLOCK", 16)
    in_band(4, 50, 2, 20, softmax, alive=(3, 2, 2, 1), ends=(50, 48, 16, 0))
    in_band(2, 50, 1, 20, softmax, alive=(0, 0, 0, 0), ends=(0, 0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("softmax", [False, True])
def test_short_numbers(dtype: torch.dtype, softmax: bool) -> None:
    in_band(1, 101, 2, 40, softmax, dtype)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize(("n", "m"), [(5, 70), (70, 5), (1, 1)])
def test_every_query_sees_all_keys_without_a_band(n: int, m: int, softmax: bool) -> None:
    given = [*drawn(4, n, m), torch.randn(2, n, m, device=DEVICE).requires_grad_()]
    given += [torch.randn(2, GAPS, device=DEVICE).requires_grad_()]
    same, all_, ago = exact(given), torch.ones(n, m, dtype=torch.bool), (times(2, n), times(2, m))
    time = TimeBias(given[4], *(part.to(DEVICE) for part in ago))
    fast = fused(*given[:4], time, heads=2, band=None, alive=None, softmax=softmax, block=128)
    bias = same[3].repeat(2, 1, 1) + by_time(same[4], *ago)
    agree(
        fast,
        given,
        torch.stack([pairwise(*(part[r] for part in same[:3]), bias[r], all_, softmax) for r in range(4)]),
        same,
    )
    fast = fused(*given[:3], None, heads=2, band=None, alive=None, softmax=softmax, block=128)
    none = torch.zeros(n, m)
    agree(
        fast,
        given[:3],
        torch.stack([pairwise(*(part[r] for part in same[:3]), none, all_, softmax) for r in range(4)]),
        same[:3],
    )


@pytest.mark.parametrize("softmax", [False, True])
def test_a_band_without_a_bias(softmax: bool) -> None:
    given = drawn(2, 40, 40)
    same = exact(given)
    fast = fused(*given, None, heads=1, band=9, alive=None, softmax=softmax, block=128)
    agree(fast, given, attend(*same, heads=1, band=9, softmax=softmax), same)


@pytest.mark.parametrize("softmax", [False, True])
def test_hidden_pairs(softmax: bool) -> None:
    """EMPTY hides; a softmax query that all keys are hidden from looks at all of them, as the blocks' does."""
    given, may = drawn(2, 6, 40), torch.rand(1, 6, 40) < 0.5
    may[0, 1], may[0, 2, 0] = False, True
    bias = torch.zeros(1, 6, 40).masked_fill(~may, EMPTY)
    fast = fused(*given, bias.to(DEVICE), heads=1, band=None, alive=None, softmax=softmax, block=128)
    same = exact(given)
    seen = [0, 2, 3, 4, 5]
    plain = torch.stack(
        [pairwise(same[0][r, seen], same[1][r], same[2][r], bias[0, seen] * 0, may[0, seen], softmax) for r in range(2)]
    )
    agree(fast[:, seen], given, plain, same)
    blocks = attend(*same, bias.double(), heads=1, softmax=softmax)
    torch.testing.assert_close(
        fast[:, 1].detach().cpu().double(), blocks[:, 1].detach(), atol=2e-3, rtol=0
    )  # 1e4 + x has few digits left


@pytest.mark.parametrize(("rows", "n", "m", "band"), [(0, 7, 7, 3), (2, 0, 0, 1), (2, 0, 5, None), (2, 5, 0, None)])
@pytest.mark.parametrize("softmax", [False, True])
def test_nothing_to_look_at(rows: int, n: int, m: int, band: int | None, softmax: bool) -> None:
    given = drawn(rows, n, m)
    size = (1, n, m) if band is None else (1, n, n + band - 1)
    bias = torch.zeros(size, device=DEVICE, requires_grad=True)
    out = fused(*given, bias, heads=1, band=band, alive=None, softmax=softmax, block=128)
    assert out.shape == (rows, n, D) and not out.any()
    assert all(not part.any() for part in torch.autograd.grad(out.sum(), [*given, bias]))


def test_thousands_of_events() -> None:
    """Held against the blocks in float64, which test_attend.py holds against the pairs. The interpreter would need a
    minute for 20,000 and the backward pass, which is therefore held there on a GPU alone.
    """
    length, band = 20_000 if DEVICE == "cuda" else 4_000, 32
    given = drawn(1, length, length, torch.float16)
    bias = band_bias(torch.randn(1, 6), length, band).half().to(DEVICE).requires_grad_()
    given, same = [*given, bias], exact([*given, bias])
    fast = fused(*given, heads=1, band=band, alive=None, softmax=False, block=blockwise.BLOCK)
    learn = len(given) if DEVICE == "cuda" else 0
    agree(fast, given[:learn], attend(*same, heads=1, band=band), same[:learn])


def test_the_same_inputs_give_the_same_bits() -> None:
    found = []
    for _ in range(2):
        given = [*drawn(6, 40, 40), *(torch.randn(2, size, device=DEVICE, requires_grad=True) for size in (6, GAPS))]
        time = TimeBias(given[4], *(torch.arange(40, device=DEVICE).flip(0).repeat(3, 1) * SECOND,) * 2)
        out = fused(*given[:3], band_bias(given[3], 40, 9), time, heads=2, band=9, alive=None, softmax=True, block=16)
        found.append([out, *torch.autograd.grad(out.sum(), given)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


ENCODERS: list[Any] = [
    lambda: HSTUStack(8, 2, 40, 2, band=6, columns=3),
    lambda: HSTUStack(8, 2, 40, 2, 1, 20, band=6, columns=3, columns_at="newest"),
    lambda: TransformerStack(8, 2, 40, 2, bias=["position", "time"]),
]


@pytest.mark.parametrize("build", ENCODERS, ids=["hstu", "truncated", "transformer"])
def test_an_encoder_learns_the_same(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through `attend`: its blocks on the CPU, then the kernels, on the device of the events."""
    monkeypatch.setattr(blockwise, "BLOCK", 16)
    monkeypatch.setattr(packed, "BLOCK", 16)
    torch.manual_seed(0)
    stack, lengths = build(), torch.tensor([40, 33, 7, 0])
    found = []
    for device, choose in (("cpu", False), (DEVICE, True)):
        monkeypatch.setattr(blockwise, "serves", lambda *_, choose=choose: choose)
        ago, actions = torch.arange(80).flip(0) * 7 * SECOND, torch.zeros(80, dtype=torch.int64)
        at, mask = sequences(lengths.to(device), ago.to(device), actions.to(device))
        torch.manual_seed(1)
        events, targets = torch.randn(4, 40, 8).to(device) * mask.unsqueeze(2), torch.randn(4, 2, 8).to(device)
        out = stack.to(device)(events, targets, at)
        learned = torch.autograd.grad(out.square().sum(), list(stack.parameters()), allow_unused=True)
        found.append([out, *(part for part in learned if part is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-4, atol=1e-4)
