"""benchmarks/gpu.py, in its smallest sizes on the CPU, where nothing but torch, triton and numpy can be imported; and
the page made of what it writes.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.programs import needs

BLOCKED = ("polars", "pyarrow", "deltalake", "pydantic", "rich", "typer", "yaml", "safetensors", "onnx", "scipy")
RUN = f"""
import runpy, sys
for name in {BLOCKED}:
    sys.modules[name] = None
sys.argv = ["benchmarks/gpu.py", "--device", "cpu", "--tiny", "--out", sys.argv[1]]
sys.path.insert(0, "benchmarks")
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""
TABLE = runpy.run_path(str(ROOT / "docs" / "gpu_table.py"))


@pytest.mark.long
@needs("triton")
def test_the_script_needs_no_more_than_torch_triton_and_numpy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "gpu.json")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    kernels = found["kernels"] + found["row kernels"]
    assert all(row["error"] <= row["tolerance"] for row in kernels if "skipped" not in row)
    assert len(kernels) == 7 and found["messages"]["right"]
    din = "din", "din, rows on the device", "din, an eighth of the rows on the device"
    for kind in (*din, "target-attention", "hstu", "token-mixer"):
        assert (
            found[kind]["rows_per_second"] > 0
            and found[kind]["wait_share"] == 0
            and set(found[kind]["parts"]) == {"wait", "gather", "dense", "update"}
        )
    assert "Not run" in TABLE["figures"](found)


def on_a_gpu() -> dict[str, Any]:
    machine = {"device": "G", "memory_gib": 80.0, "torch": "2", "cuda": "13", "product_flops": 8e14, "peak_flops": 1e15}
    model = {"dense_parameters": 10**6, "history": 100, "rows_per_step": 4096, "rows_per_second": 123456.0, "mfu": 0.5}
    return {
        "machine": machine,
        "din": {**model, "wait_share": 0.04, "parts": {"wait": 0.001, "update": 0.0025}, "peak_gib": 3.25},
        "hstu": {"failed": "RuntimeError: no"},
        "attention": [{"way": "ours", "milliseconds": "1.50", "times_ours": "1.00"}],
        "kernels": [{"kernel": "a", "error": 2e-6, "tolerance": 1e-5}, {"kernel": "b", "skipped": "why"}],
    }


def test_figures_become_tables() -> None:
    text = TABLE["figures"](on_a_gpu())
    assert "| din | 1.0M, 100 events, 4,096 rows | 123,456 | 0.50 | wait 1.0, update 2.5 (4% waiting) | 3.2 |" in text
    assert "| hstu | failed: RuntimeError: no |" in text and "| ours | 1.50 | 1.00 |" in text
    assert "| a | 2.0e-06 | 1e-05 |" in text and "| b | why |" in text and "Not run" not in text


def test_the_page_shows_what_the_file_holds() -> None:
    text = (ROOT / "docs" / "howto" / "on-a-gpu.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "docs" / "gpu.json").read_text(encoding="utf-8"))
    assert TABLE["page"](text, found) == text, "run: python docs/gpu_table.py"
    assert "Not run" not in TABLE["page"](text, on_a_gpu())
