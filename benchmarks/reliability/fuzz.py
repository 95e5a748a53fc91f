"""Damaged logs: `python benchmarks/reliability/fuzz.py [TRIES]` (20,000, about 20 minutes). Budget: none goes wrong.

A log as Parquet, a folder of Parquet parts, CSV, JSON lines (both also packed) or a Delta table has bytes flipped, cut,
repeated or put in, and is ingested. Right is a whole run, or one line that says why not and no run. What ends the
process or takes more than a minute is wrong too.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests' own fuzzer

from rich.console import Console

from tests.support.fuzz import Fuzzer

SHARE, SECONDS = 200, 60 + 200  # tries of one process, and how long they may take


def tries(first: int, count: int, answers: multiprocessing.Queue[str | tuple[int, int]]) -> None:
    """Put what went wrong, a line each, and at last (taken, refused)."""
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        for seed in range(first, first + count):
            if why := fuzzer.try_one(seed):
                answers.put(why[:300])
        answers.put((fuzzer.taken, fuzzer.refused))


def share(first: int, count: int) -> tuple[list[str], int, int]:
    """Return (what went wrong, taken, refused) of the tries from seed `first` on, in a process of their own."""
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str | tuple[int, int]] = context.Queue()
    process = context.Process(target=tries, args=(first, count, answers))
    process.start()
    process.join(SECONDS)
    found: list[str | tuple[int, int]] = []
    while not answers.empty():
        found.append(answers.get())
    if process.exitcode != 0:
        process.kill()
        found.append(f"seeds {first} to {first + count - 1}: the process ended with {process.exitcode}, or hangs")
    counts = [one for one in found if isinstance(one, tuple)] or [(0, 0)]
    return [one for one in found if isinstance(one, str)], *counts[0]


def main() -> int:
    """Try so many damaged logs; print what went wrong."""
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    console, wrong, taken, refused = Console(), list[str](), 0, 0
    for first in range(0, total, SHARE):
        lines, some, others = share(first, min(SHARE, total - first))
        wrong, taken, refused = [*wrong, *lines], taken + some, refused + others
        for line in lines:
            console.print(line, markup=False)
    console.print(f"{total:,} damaged logs: {refused:,} refused in a line, {taken:,} taken, {len(wrong):,} went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
