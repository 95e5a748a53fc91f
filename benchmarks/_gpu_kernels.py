"""Every fused kernel against the same arithmetic in float64 on the same device, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recdistill.data.batch.ages import GAP_STEP, GAPS, SECOND, gap_bucket
from recdistill.models.attention.blockwise import BLOCK, band_bias
from recdistill.models.attention.float8 import MIN_CAPABILITY, linear
from recdistill.models.attention.time_bias import TimeBias
from recdistill.models.attention.triton_op import fused

__all__ = ["checked_kernels"]

TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}  # of the norm; those of the tests
FLOAT8 = 0.1  # of the norm: two numbers of three binary digits each
HEADS, HISTORIES, BIASES = 2, 2, 6
EDGE = 1e-5  # of a bucket: more than float32 rounds a logarithm by


@dataclass(frozen=True)
class Attention:
    """One way of attending: `band` None lets every query see all keys."""

    dtype: torch.dtype
    band: int | None
    softmax: bool

    @property
    def name(self) -> str:
        """Return what it is in words."""
        short = str(self.dtype).removeprefix("torch.")
        seen = "all keys" if self.band is None else f"band {self.band}"
        return f"attention, {'softmax' if self.softmax else 'SiLU'}, {seen}, {short}"


def ways(band: int, dtypes: Sequence[torch.dtype]) -> Iterator[Attention]:
    """Yield every way that a model attends."""
    for dtype in dtypes:
        for softmax in (False, True):
            yield Attention(dtype, band, softmax)
            yield Attention(dtype, None, softmax)


def drawn(way: Attention, length: int, width: int, device: str) -> tuple[list[Tensor], Tensor]:
    """Return (query, key, value, bias by place, bias by time, all of which learn; us ago of the events)."""
    torch.manual_seed(0)
    sizes = [(HISTORIES * HEADS, length, width)] * 3
    places = (HEADS, BIASES) if way.band is not None else (HEADS, length, length)
    parts = [torch.randn(size, device=device) * 0.5 for size in (*sizes, places)]
    parts = [part.to(way.dtype).requires_grad_() for part in parts]
    parts.append(torch.randn(HEADS, GAPS, device=device).requires_grad_())
    return parts, next(ago for ago in drawn_times(length, device) if not at_an_edge(ago))


def drawn_times(length: int, device: str) -> Iterator[Tensor]:
    """Yield random times of events, int64 [R, L], us ago."""
    while True:
        apart = torch.randint(1, 10**5 * SECOND, (HISTORIES, length), device=device)
        yield apart.cumsum(1).flip(1)


def at_an_edge(ago: Tensor) -> bool:
    """Return whether the time between two events is so near a bucket's edge that two logarithms in float32 may put it
    on either side of it, which is no error of a kernel.
    """
    seconds = ((ago[:, None, :] - ago[:, :, None]).double() / SECOND).clamp(min=1)
    buckets = seconds.log() / GAP_STEP
    return bool((((buckets - buckets.round()).abs() < EDGE) & (buckets > 0)).any())


def plain(way: Attention, parts: list[Tensor], ago: Tensor) -> Tensor:
    """Return the attention pair by pair, in float64."""
    query, key, value, places, times = parts
    length = query.shape[1]
    apart = torch.arange(length, device=query.device)[:, None] - torch.arange(length, device=query.device)
    bias = places if way.band is None else places[:, apart.clamp(0, BIASES - 1)]
    gaps = gap_bucket(ago[:, None, :] - ago[:, :, None])
    bias = bias + times[:, gaps].transpose(0, 1)  # [R, H, L, L]
    scores = query @ key.transpose(1, 2) + bias.flatten(0, 1)
    hidden = (apart < 0) | (apart >= way.band) if way.band is not None else torch.zeros_like(apart, dtype=torch.bool)
    if way.softmax:
        return scores.masked_fill(hidden, -torch.inf).softmax(2) @ value
    return torch.nn.functional.silu(scores).masked_fill(hidden, 0.0) @ value


def fast(way: Attention, parts: list[Tensor], ago: Tensor) -> Tensor:
    """Return the attention by the kernels."""
    query, key, value, places, times = parts
    bias = places if way.band is None else band_bias(places, query.shape[1], way.band)
    time = TimeBias(times, ago, ago)
    return fused(
        query, key, value, bias, time, heads=HEADS, band=way.band, alive=None, softmax=way.softmax, block=BLOCK
    )


def worst(found: Tensor, wanted: Tensor, given: list[Tensor], same: list[Tensor]) -> float:
    """Return the largest error of the result and of the gradients, each over the norm of what it should be, at least
    1.
    """
    pull = torch.randn(wanted.shape, dtype=torch.float64, device=wanted.device)
    ours = (found, *torch.autograd.grad(found, given, pull.to(found.dtype)))
    exact = (wanted, *torch.autograd.grad(wanted, same, pull.to(found.dtype).double()))
    errors = [
        float((one.detach().double() - other.detach()).norm()) / max(1.0, float(other.detach().norm()))
        for one, other in zip(ours, exact, strict=True)
    ]
    return max(errors)


def error_of(way: Attention, length: int, width: int, device: str) -> float:
    """Return how far the kernels of one way are off."""
    given, ago = drawn(way, length, width, device)
    same = [part.detach().double().requires_grad_() for part in given]
    return worst(fast(way, given, ago), plain(way, same, ago), given, same)


def float8_error(device: str) -> float:
    """Return how far a linear layer in 8 bits is off, forward and backward."""
    torch.manual_seed(0)
    given = [torch.randn(size, device=device, requires_grad=True) for size in ((64, 128), (256, 128))]
    same = [part.detach().double().requires_grad_() for part in given]
    return worst(linear(*given), same[0] @ same[1].t(), given, same)


def checked_kernels(length: int, width: int, band: int, device: str, tiny: bool) -> list[dict[str, Any]]:
    """Return one record per kernel: kernel, error, tolerance; or kernel and why it was not run. tiny: in float32 alone,
    for Triton's interpreter takes seconds.
    """
    rows: list[dict[str, Any]] = []
    for way in ways(band, [torch.float32] if tiny else [*TOLERANCE]):
        rows.append({"kernel": way.name, "error": error_of(way, length, width, device)})
        rows[-1]["tolerance"] = TOLERANCE[way.dtype]
    name = "linear layer, float8"
    if device == "cuda" and torch.cuda.get_device_capability() >= MIN_CAPABILITY:
        rows.append({"kernel": name, "error": float8_error(device), "tolerance": FLOAT8})
    else:
        rows.append({"kernel": name, "skipped": "needs compute capability 8.9"})
    return rows
