"""Linear products in 8-bit numbers, where the hardware multiplies them: values and weights as e4m3, gradients as e5m2
(2209.05433).

Every operand is scaled by its own largest value at each product, sums are float32. What is not a product of matrices,
attention included, stays in its own precision; so does a product whose widths are no multiples of 16, which the
hardware refuses.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from recdistill.errors import UserError

__all__ = ["Float8", "check_float8", "linear", "same_products"]

UNIT = 16  # what the sides of a product must be multiples of
MIN_CAPABILITY = 8, 9  # of a GPU that multiplies 8-bit numbers


def check_float8(device: torch.device) -> None:
    """Raise UserError unless the device multiplies 8-bit numbers."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        raise UserError(
            f"precision: float8 needs a GPU of compute capability 8.9 or more, and this model is on {device}; take "
            "bfloat16"
        )


def _short(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (x / scale in dtype, row after row; scale), the largest value of x being the largest of the dtype."""
    largest = torch.finfo(dtype).max
    scale = (x.abs().amax().float() / largest).clamp(min=1e-30)
    return (x.float() / scale).clamp(-largest, largest).to(dtype).contiguous(), scale


def _columns(x: Tensor) -> Tensor:
    """Return x [n, m], laid out column by column, as the second factor must be."""
    return x.t().contiguous().t()


class _Product(torch.autograd.Function):
    """x [n, i] times weight [o, i] transposed, bfloat16 [n, o]; n, i and o are multiples of UNIT."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        (short, scale), (few, weight_scale) = _short(x, torch.float8_e4m3fn), _short(weight, torch.float8_e4m3fn)
        ctx.save_for_backward(short, scale, few, weight_scale)
        ctx.dtypes = x.dtype, weight.dtype
        return torch._scaled_mm(short, few.t(), scale_a=scale, scale_b=weight_scale, out_dtype=torch.bfloat16)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        short, scale, few, weight_scale = ctx.saved_tensors
        pull, pull_scale = _short(grad.contiguous(), torch.float8_e5m2)
        to_x = torch._scaled_mm(pull, _columns(few), scale_a=pull_scale, scale_b=weight_scale, out_dtype=torch.bfloat16)
        to_weight = torch._scaled_mm(
            pull.t().contiguous(), _columns(short), scale_a=pull_scale, scale_b=scale, out_dtype=torch.float32
        )
        return to_x.to(ctx.dtypes[0]), to_weight.to(ctx.dtypes[1])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return bfloat16 [..., o] of x [..., i], weight [o, i], bias [o], multiplied in 8 bits; where the
    hardware cannot, torch's product.
    """
    if not x.numel() or weight.shape[0] % UNIT or weight.shape[1] % UNIT:
        return functional.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    padded = functional.pad(rows, (0, 0, 0, -len(rows) % UNIT))
    product = _Product.apply(padded, weight)  # type: ignore[no-untyped-call]
    out = torch.as_tensor(product)[: len(rows)].view(*x.shape[:-1], -1)
    return out if bias is None else out + bias.to(out.dtype)


class Float8(TorchFunctionMode):
    """Within this context every `torch.nn.functional.linear`, so every nn.Linear, is this module's
    `linear`; used inside autocast.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (linear if func is functional.linear else func)(*args, **kwargs or {})


def same_products() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return the contexts for torch's checkpoint: what is recomputed for the backward pass uses the
    products of now.
    """
    now = any(isinstance(mode, Float8) for mode in _get_current_function_mode_stack())  # type: ignore[no-untyped-call]
    return nullcontext(), Float8() if now else nullcontext()
