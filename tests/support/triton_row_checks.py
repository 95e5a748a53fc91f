"""The kernels that move a table's rows: against the host's table in Triton's interpreter, and compiled for GPUs that
are not here. test_on_device.py runs each in a process of its own.
"""

from __future__ import annotations

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from recdistill.models.embeddings import fused_rows, triton_rows
from recdistill.models.embeddings.on_device import DeviceTable
from tests.support.table_steps import TABLES, agree, learned, table

SHARED = {80: 163, 89: 99, 90: 227}  # KiB that a program may have
TYPES = {"steps": "*i32", "rows": "*i64", "wanted": "*i1", "count": "i32", "keep": "fp32", "rate": "fp32"}
FIXED = {"B1": 0.9, "B2": 0.999, "EPSILON": 1e-8}


@pytest.mark.parametrize("width", [1, 5])
@pytest.mark.parametrize("kind", TABLES)
def test_a_step_learns_what_the_host_does(kind: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_rows, "serves", lambda *_: True)
    monkeypatch.setattr(fused_rows, "NUMBERS", 16)  # so that there are several programs
    agree(learned(DeviceTable(table(kind, width), torch.device("cpu")), kind), learned(table(kind, width), kind))


@pytest.mark.parametrize("width", [57])
@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("name", triton_rows.__all__)
def test_a_kernel_compiles(name: str, arch: int, width: int) -> None:
    kernel = getattr(triton_rows, name)
    fixed = {**FIXED, **fused_rows._sizes(width)}
    types = {one: "constexpr" if one in fixed else TYPES.get(one, "*fp32") for one in kernel.arg_names}
    given = {one: value for one, value in fixed.items() if one in kernel.arg_names}
    built = triton.compile(ASTSource(kernel, types, given), target=GPUTarget("cuda", arch, 32))
    assert built.asm["cubin"] and built.metadata.shared <= SHARED[arch] * 1024
