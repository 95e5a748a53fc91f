"""Write the figures of docs/gpu.json into docs/howto/on-a-gpu.md: python docs/gpu_table.py

`benchmarks/gpu.py` writes that file on a machine with a GPU. While there is none, the page says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PAGE, FOUND = DOCS / "howto" / "on-a-gpu.md", DOCS / "gpu.json"
BEGIN, END = "<!-- figures, made by docs/gpu_table.py -->\n", "<!-- end of figures -->\n"
NOT_RUN = (
    "**Not run.** No machine with a GPU has run this script yet, so there is no figure of ours for any GPU. What was "
    "tested without one stands below.\n"
)
FAILED = "failed: {}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def of_machine(machine: dict[str, Any]) -> str:
    """Return what was run on, as a sentence."""
    return (
        f"{machine['device']}, {machine['memory_gib']:.0f} GiB, torch {machine['torch']}, CUDA {machine['cuda']}; a "
        f"product of two matrices of 8,192 x 8,192 in bfloat16 runs at {machine['product_flops'] / 1e12:.0f} TFLOP/s. "
        f"MFU is the share of {machine['peak_flops'] / 1e12:.0f} TFLOP/s.\n"
    )


def of_model(name: str, found: dict[str, Any]) -> list[str]:
    """Return the row of one model."""
    if "failed" in found:
        return [name, FAILED.format(found["failed"]), "", "", "", ""]
    parts = ", ".join(f"{part} {1e3 * seconds:.1f}" for part, seconds in found["parts"].items())
    parts += f" ({found['wait_share']:.0%} waiting)"
    size = f"{found['dense_parameters'] / 1e6:,.1f}M, {found['history']:,} events, {found['rows_per_step']:,} rows"
    speed = f"{found['rows_per_second']:,.0f}"
    return [name, size, speed, f"{found['mfu']:.2f}", parts, f"{found['peak_gib']:.1f}"]


def of_kernel(row: dict[str, Any]) -> list[str]:
    """Return the row of one kernel."""
    if "skipped" in row:
        return [row["kernel"], row["skipped"], ""]
    return [row["kernel"], f"{row['error']:.1e}", f"{row['tolerance']:.0e}"]


def listed(head: Sequence[str], found: Any, cells: Any) -> str:
    """Return the table of one part, or how it failed."""
    return table(head, [cells(row) for row in found]) if isinstance(found, list) else f"{FAILED.format(found)}\n"


def figures(found: dict[str, Any]) -> str:
    """Return the page's part of what the script found: that it was not run, where no GPU is named."""
    if not found.get("machine", {}).get("device"):
        return NOT_RUN
    models = [name for name in found if name.startswith(("din", "target-attention", "hstu", "token-mixer"))]
    head = ("model", "size of a step", "rows/s", "MFU", "ms of a step", "GiB at most")
    parts = [of_machine(found["machine"]), table(head, [of_model(name, found[name]) for name in models])]
    if "attention" in found:
        ways = listed(
            ("attention over 20,000 events, forward and backward", "ms", "times ours"),
            found["attention"],
            lambda row: [row["way"], row["milliseconds"], row["times_ours"]],
        )
        parts.append(ways)
    for name in ("kernels", "row kernels"):
        if name in found:
            parts.append(listed(("kernel", "error", "tolerance"), found[name], of_kernel))
    if "messages" in found:
        parts.append(f"NCCL on one rank: {json.dumps(found['messages'])}\n")
    return "\n".join(parts)


def page(text: str, found: dict[str, Any]) -> str:
    """Return the page with these figures."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + figures(found) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    read = json.loads(FOUND.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read), encoding="utf-8")
