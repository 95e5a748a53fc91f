"""Attention on long histories, and how much of the machine the token mixer uses: `python benchmarks/attention.py`
(about 3 minutes).

One HSTU layer, forward and backward, on one history. Budgets: semi-local, time per event at 20,000 / at 1,000 events <=
1.2; its peak memory grows with the length, not its square; a TokenMixer-Large block of width 512 reaches >= 0.4 of the
matrix product's own speed here. The dense layer is measured too, as far as its L x L memory goes. Where there is a GPU,
the fused attention of 20,000 events is compared with PyTorch's own, and the block's share of the peak is measured in
bfloat16: >= 0.5.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _attention_gpu import compared, now
from _common import report

from recdistill.models.backbones.token_mixer import TokenMixer
from recdistill.models.encoders.hstu import HSTULayer
from recdistill.models.encoders.packed import one_sequence

WIDTH, HEADS, BAND, COLUMNS = 64, 2, 256, 32
SHORT, LONG, ROUNDS = 1_000, 20_000, 5
BUDGET, SHARE, MFU = 1.2, 0.4, 0.5


def step_of(length: int, band: int | None, columns: int) -> Callable[[], None]:
    """Return a function that takes one HSTU layer forward and backward over one history."""
    torch.manual_seed(0)
    layer = HSTULayer(WIDTH, HEADS, length, band=band, columns=columns)
    events, targets, at = (
        torch.randn(1, length, WIDTH, requires_grad=True),
        torch.randn(1, 4, WIDTH),
        one_sequence(length),
    )

    def step() -> None:
        after, seen = layer(events, targets, at)
        (after.sum() + seen.sum()).backward()

    return step


def per_event(length: int, band: int | None, columns: int) -> float:
    """Return seconds per event, the median over ROUNDS."""
    step = step_of(length, band, columns)
    step()
    repeats = max(1, LONG // length // 4)
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(repeats):
            step()
        found.append((time.perf_counter() - start) / repeats / length)
    return statistics.median(found)


def peak(length: int, columns: int) -> float:
    """Return MiB that a semi-local step of its own process needs beyond one on 64 events."""
    code = (
        f"import sys; sys.path.insert(0, {str(sys.path[0])!r}); import attention; attention.measure({length}, "
        f"{columns})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def high_water() -> float:
    """Return the most MiB that this process has held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(length: int, columns: int) -> None:
    """Print the peak of this process in MiB after a step on 64 events, and one on `length`."""
    step_of(64, BAND, columns)()
    before = high_water()
    step_of(length, BAND, columns)()
    print(high_water() - before)


def gemm(size: int = 1024, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Return FLOP/s of a square product, the best of ROUNDS."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    best = 0.0
    for _ in range(ROUNDS):
        start = now(device)
        for _ in range(5):
            torch.mm(a, b)
        best = max(best, 5 * 2 * size**3 / (now(device) - start))
    return best


def mixer_speed(width: int = 512, batch: int = 512, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Return FLOP/s of TokenMixer-Large's blocks, forward and backward, counting the products of its weights alone."""
    torch.manual_seed(0)
    mixer = TokenMixer(width, tokens=8, width=width, layers=2).to(device, dtype)
    x = torch.randn(batch, width, device=device, dtype=dtype)
    flops = 6 * batch * sum(p.numel() for p in mixer.parameters() if p.dim() > 1)
    mixer(x).sum().backward()
    found = []
    for _ in range(ROUNDS):
        start = now(device)
        mixer(x).sum().backward()
        found.append(now(device) - start)
    return flops / statistics.median(found)


def on_gpu() -> int:
    """Print what the fused attention and the token mixer do on a GPU in bfloat16, where there is one."""
    if not torch.cuda.is_available():
        print("no GPU: its 20,000-event step against PyTorch's own attention, and MFU in bfloat16, were skipped")
        return 0
    heads, width = 8, 64
    rows = compared(LONG, heads, width, BAND, ROUNDS, "cuda")
    title = (
        f"{torch.cuda.get_device_name()}: attention of {LONG:,} events, {heads} heads of {width}, bfloat16, forward "
        "and backward"
    )
    report(title, ("attention", "ms", "times"), rows, True, "none")
    peak, mixer = gemm(8192, "cuda", torch.bfloat16), mixer_speed(2048, 8192, "cuda", torch.bfloat16)
    mixed = [[f"{peak / 1e12:.0f}", f"{mixer / 1e12:.0f}", f"{mixer / peak:.2f}"]]
    return report(
        "TokenMixer-Large, width 2,048, bfloat16",
        ("GEMM TFLOP/s", "blocks", "MFU"),
        mixed,
        mixer / peak >= MFU,
        f">= {MFU}",
    )


def main() -> int:
    """Measure and print everything."""
    rows, ratios = [], {}
    for name, band, columns in (
        ("semi-local", BAND, 0),
        (f"semi-local, {COLUMNS} columns", BAND, COLUMNS),
        ("dense", None, 0),
    ):
        short, long = per_event(SHORT, band, columns), per_event(LONG, band, columns)
        ratios[name] = long / short
        memory = [f"{peak(length, columns):.0f}" if band else "" for length in (SHORT * 5, LONG)]
        rows.append([name, f"{short * 1e6:.1f}", f"{long * 1e6:.1f}", f"{long / short:.2f}", *memory])
    peak_gemm, mixer = gemm(), mixer_speed()
    title = f"one HSTU layer, width {WIDTH}, {HEADS} heads, band {BAND}"
    columns_ = (
        "attention",
        f"us/event at {SHORT:,}",
        f"at {LONG:,}",
        "ratio",
        f"peak MiB at {SHORT * 5:,}",
        f"at {LONG:,}",
    )
    failed = report(
        title,
        columns_,
        rows,
        max(ratios["semi-local"], ratios[f"semi-local, {COLUMNS} columns"]) <= BUDGET,
        f"<= {BUDGET}",
    )
    share = mixer / peak_gemm
    mixed = [[f"{peak_gemm / 1e9:.0f}", f"{mixer / 1e9:.0f}", f"{share:.2f}"]]
    failed |= report(
        "TokenMixer-Large, width 512", ("GEMM GFLOP/s", "blocks", "share"), mixed, share >= SHARE, f">= {SHARE}"
    )
    return failed | on_gpu()


if __name__ == "__main__":
    sys.exit(main())
