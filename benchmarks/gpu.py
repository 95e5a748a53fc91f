"""What a GPU gives: `python benchmarks/gpu.py` (under 8 minutes on one; it needs torch, triton and numpy alone).

Every fused kernel against float64; DIN, target attention, HSTU and TokenMixer-Large in training; attention over 20,000
events, ours and PyTorch's own; NCCL on one rank. After each part all that was found so far is written to docs/gpu.json,
from which `python docs/gpu_table.py` makes the page. `--device cpu --tiny` tries the script where there is no GPU: the
kernels run in Triton's interpreter, and nothing is written without `--out`.

Budgets, on a GPU: all kernels within their tolerance, MFU of TokenMixer-Large >= 0.5, semi-local attention >= 3 times
as fast as PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the package need not be installed
if "cpu" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # which is decided when triton is imported, and torch imports it

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from _attention_gpu import compared, now  # noqa: E402
from _gpu_kernels import checked_kernels  # noqa: E402
from _gpu_models import Case, measured  # noqa: E402
from _gpu_rows import checked_rows  # noqa: E402

PEAKS = {(8, 0): 312e12, (9, 0): 989e12}  # FLOP/s in bfloat16 by compute capability, from the data sheets
MFU, FASTER = 0.5, 3.0
CASES = (
    Case("din", 64, 100, 8192),
    Case("din", 64, 100, 8192, tables="device"),
    Case("din", 64, 100, 1024, tables="cached"),
    Case("target-attention", 64, 200, 4096, tables="device"),
    Case(
        "hstu",
        256,
        2000,
        32,
        8,
        tables="device",
        options={"layers": 8, "heads": 4, "band": 256, "precision": "bfloat16"},
    ),
    Case(
        "token-mixer",
        128,
        500,
        64,
        64,
        tables="device",
        options={"tokens": 16, "mixer_width": 1024, "mixer_layers": 4, "heads": 4, "precision": "bfloat16"},
    ),
)
TINY = (
    Case("din", 8, 5, 6, ids=50),
    Case("din", 8, 5, 6, ids=50, tables="device"),
    Case("din", 8, 5, 6, ids=50, tables="cached"),
    Case("target-attention", 8, 5, 6, ids=50),
    Case("hstu", 8, 9, 2, 2, ids=50, options={"layers": 1, "band": 4, "precision": "bfloat16"}),
    Case("token-mixer", 8, 9, 2, 2, ids=50, options={"tokens": 2, "mixer_width": 8, "mixer_layers": 2}),
)


def product_speed(size: int, device: str) -> float:
    """Return FLOP/s of a square product in bfloat16, the median of five."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    torch.mm(one, other)
    found = []
    for _ in range(5):
        start = now(device)
        for _ in range(5):
            torch.mm(one, other)
        found.append(5 * 2 * size**3 / (now(device) - start))
    return statistics.median(found)


def machine(size: int, device: str) -> dict[str, Any]:
    """Return what the script runs on; peak: FLOP/s that MFU is a share of."""
    speed = product_speed(size, device)
    found: dict[str, Any] = {"torch": torch.__version__, "product_flops": speed, "device": None, "peak_flops": speed}
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        peak = PEAKS.get((about.major, about.minor), speed)
        found |= {"device": about.name, "memory_gib": about.total_memory / 2**30, "peak_flops": peak}
        found |= {"capability": f"{about.major}.{about.minor}", "cuda": torch.version.cuda}
    return found


def messages(numbers: int, device: str) -> dict[str, Any]:
    """Return what one rank takes to send itself a sum and rows: that the library is there and the calls are right."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{found.getsockname()[1]}"
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=address, rank=0, world_size=1)
    try:
        sent = torch.arange(numbers, device=device, dtype=torch.float32)
        summed, received = sent.clone(), torch.empty_like(sent)
        dist.all_reduce(summed)
        dist.all_to_all_single(received, sent)
        right = torch.equal(summed, sent) and torch.equal(received, sent)
        start = now(device)
        dist.all_reduce(summed)
        return {"backend": backend, "right": right, "bytes": 4 * numbers, "all_reduce_seconds": now(device) - start}
    finally:
        dist.destroy_process_group()


def attention(length: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Return the ways to attend over one long history, ours first."""
    heads, width, band = (8, 64, 256) if device == "cuda" else (1, 4, 8)
    rows = compared(length, heads, width, band, rounds, device)
    return [{"way": way, "milliseconds": took, "times_ours": times} for way, took, times in rows]


def parts_of(tiny: bool, device: str, peak: float) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name, in order."""
    sizes = (9, 4, 4) if device == "cpu" else (300, 64, 100)
    events, rounds, steps = (64, 1, 1) if tiny else (20_000, 5, 20)
    found: dict[str, Callable[[], Any]] = {
        case.name: lambda case=case: measured(case, steps, peak, device) for case in (TINY if tiny else CASES)
    }
    if find_spec("triton") is not None:
        count, width = (30, 5) if device == "cpu" else (1_000_000, 57)
        kernels = {
            "kernels": lambda: checked_kernels(*sizes, device, tiny),
            "row kernels": lambda: checked_rows(count, width, device),
        }
        found = kernels | found
    found["attention"] = lambda: attention(events, rounds, device)
    return found | {"messages": lambda: messages(1000 if tiny else 1 << 28, device)}


def tried(call: Callable[[], Any]) -> Any:
    """Return what a part finds, or how it failed: one that fails does not hide the others."""
    try:
        return call()
    except Exception as wrong:  # noqa: BLE001 - compilers and drivers have classes of their own
        return {"failed": f"{type(wrong).__name__}: {str(wrong).strip()[:200]}"}


def missed(found: dict[str, Any]) -> list[str]:
    """Return which budgets were missed, and which parts failed."""
    wrong = [name for name, part in found.items() if isinstance(part, dict) and "failed" in part]
    for kernels in (found.get("kernels"), found.get("row kernels")):
        if isinstance(kernels, list):
            wrong += [row["kernel"] for row in kernels if not row.get("error", 0.0) <= row.get("tolerance", 0.0)]
    if found["machine"]["device"] is not None:
        mixers = [part.get("mfu", 0.0) for name, part in found.items() if name.startswith("token-mixer")]
        wrong += [f"token-mixer: MFU below {MFU}"] * (max(mixers, default=0.0) < MFU)
        ways = found.get("attention")
        own = [row for row in ways if row["way"].startswith("scaled")] if isinstance(ways, list) else []
        times = [float(row["times_ours"]) for row in own if row["times_ours"]]
        wrong += [f"attention: less than {FASTER:g} times as fast"] * (min(times, default=0.0) < FASTER)
    return wrong


def main() -> int:
    """Measure part by part; return 1 where a budget was missed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    words.add_argument("--tiny", action="store_true", help="the smallest sizes")
    words.add_argument("--out", type=Path, help="the file to write; of cuda docs/gpu.json unless given")
    given = words.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device; try the script with: --device cpu --tiny", file=sys.stderr)
        return 2
    out = given.out or (ROOT / "docs" / "gpu.json" if given.device == "cuda" else None)
    found: dict[str, Any] = {"machine": machine(64 if given.tiny else 8192, given.device)}
    for name, call in parts_of(given.tiny, given.device, found["machine"]["peak_flops"]).items():
        start = time.perf_counter()
        found[name] = tried(call)
        print(f"{name} ({time.perf_counter() - start:.0f} s): {json.dumps(found[name])}", flush=True)
        if out is not None:
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = missed(found)
    print("budgets met" if not wrong else f"MISSED: {'; '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
