"""Fused attention: chosen where it can be, equal to pairs in Triton's interpreter, and compiled for GPUs
that are not here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recdistill.models.attention import triton_op
from recdistill.models.attention.triton_op import WIDEST, serves
from tests.support.paths import ROOT
from tests.support.programs import needs


def checked(name: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a file in a process of its own: whether kernels are interpreted is decided when
    triton is imported.
    """
    call = [
        sys.executable,
        "-m",
        "pytest",
        f"tests/support/{name}",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore:overflow encountered in exp",
    ]
    return subprocess.run(call, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **extra})


@pytest.mark.long
@needs("triton")
def test_the_kernels_equal_pairs() -> None:
    done = checked("triton_checks.py", TRITON_INTERPRET="0" if torch.cuda.is_available() else "1")
    assert done.returncode == 0, done.stdout


@pytest.mark.long
@needs("triton")
def test_the_kernels_compile(tmp_path: Path) -> None:
    done = checked("triton_builds.py", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stdout


def test_fused_attention_is_for_cuda_and_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_op, "_installed", lambda: True)
    short, exact = torch.empty(1, 1, 4, dtype=torch.bfloat16), torch.empty(1, 1, 4)
    assert serves("cuda", (short, short, short)) and serves("cuda", (exact, exact, exact))
    assert not serves("cpu", (exact, exact, exact)) and not serves("meta", (exact, exact, exact))
    assert not serves("cuda", (short, exact, exact)) and not serves("cuda", (exact.double(),) * 3)
    assert not serves("cuda", (exact, exact, torch.empty(1, 1, WIDEST + 1)))
    monkeypatch.setattr(triton_op, "_installed", lambda: False)
    assert not serves("cuda", (exact, exact, exact))


def test_attention_needs_no_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None; import torch\n"
        "from recdistill.models.attention import blockwise, triton_op\n"
        "x = torch.ones(1, 3, 2); print(triton_op._installed(), *blockwise.attend(x, x, x, heads=1, band=2).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "1", "3", "2"], done.stderr
