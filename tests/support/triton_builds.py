"""The kernels compile for GPUs that are not here, within the shared memory of each: what test_fused.py runs
in a process of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from recdistill.data.batch.ages import GAPS
from recdistill.models.attention import triton_kernels, triton_op

SHARED = {80: 163, 89: 99, 90: 227}  # KiB that a program may have
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
NUMBERS = {"reach": "*i32", "levels": "*fp32", "means": "*fp32", "parts": "*fp32", "gaps": "*fp32"}
NUMBERS |= {"query_times": "*i64", "key_times": "*i64"}
COUNTS = ("rows", "n", "m", "heads", "band", "block", "columns", "size")


def built(name: str, arch: int, dtype: torch.dtype, width: int, band: int | None, softmax: bool) -> Any:
    """Return a kernel as `fused` starts it, compiled for a GPU of that capability."""
    kernel, part = getattr(triton_kernels, name), torch.empty(2, 300, width, dtype=dtype, device="meta")
    tables = [torch.empty(2, *size, device="meta") for size in ((128, 191), (GAPS,))]
    sizes = triton_op._sizes(part, part, part, *tables, 2, band, softmax, 128)
    options = {name: sizes.pop(name) for name in ("num_warps", "num_stages")}
    fixed = {name: sizes[name] for name in sizes if name.isupper()}
    types = {
        name: "constexpr" if name in fixed else "i32" if name in COUNTS else NUMBERS.get(name, "*" + NAMES[dtype])
        for name in kernel.arg_names
    }
    aligned = {(at,): [["tt.divisibility", 16]] for at, type_ in enumerate(types.values()) if type_.startswith("*")}
    return triton.compile(ASTSource(kernel, types, fixed, aligned), target=GPUTarget("cuda", arch, 32), options=options)


@pytest.mark.parametrize("name", triton_kernels.__all__)
@pytest.mark.parametrize(
    ("arch", "dtype", "width", "band", "softmax"),
    [
        (80, torch.bfloat16, 57, 64, False),
        (90, torch.bfloat16, 128, None, True),
        (89, torch.float32, 57, 64, True),
    ],
)
def test_a_kernel_compiles(
    name: str, arch: int, dtype: torch.dtype, width: int, band: int | None, softmax: bool
) -> None:
    kernel = built(name, arch, dtype, width, band, softmax)
    assert kernel.asm["cubin"] and kernel.metadata.shared <= SHARED[arch] * 1024
