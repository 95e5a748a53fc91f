"""The same run in a folder and in buckets, a part of `out.py`: are its figures the same to the bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from _common import report
from _out_places import SERVERS, bucket, figures

from recdistill.storage.location import Location

__all__ = ["same"]

SIMULATED = """
name: out
data: {reader: simulator, options: {rows: 20000, users: 200, items: 100}}
teacher: {kind: target-attention, width: 16, history: 50}
students: {light: {kind: din, width: 8, history: 20, distill: {weight: 1.0}}}
evaluate: {seeds: [0, 1]}
checkpoint_rows: 5000
"""
MOVIELENS = Path(__file__).parents[1] / "examples" / "movielens-100k.yaml"


def command(*words: object) -> float:
    """Return the seconds that a command takes; SystemExit with what it printed where it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("recdistill"), *map(str, words)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{words[0]} failed with exit code {done.returncode}: {done.stdout}{done.stderr}")
    return time.perf_counter() - start


def same(folder: Path, data: Path | None) -> int:
    """Run MovieLens, whose file lies in `data`, or a simulated log; print the table, and return 0 where all is equal.

    Each run in a bucket is scored once more by a machine that has nothing of it.
    """
    config = MOVIELENS if data else folder / "out.yaml"
    if data is None:
        config.write_text(SIMULATED, encoding="utf-8")
    words = [config, *(("--data", data) if data else ())]
    local = folder / "local"
    rows = [["a folder", f"{command('run', *words, '--out', local):.1f}", "", ""]]
    for server in SERVERS:
        with bucket(server, folder) as place:
            seconds = command("run", *words, "--out", place)
            first = _equal(local, place)
            shutil.rmtree(os.environ["RECDISTILL_CACHE"])
            command("evaluate", place)
            rows.append([server, f"{seconds:.1f}", first, _equal(local, place)])
    met = all("no" not in row for row in rows)
    columns = ["where", "run, s", "figures as in the folder", "and scored on another machine"]
    return report(f"{config.stem}: one run in three places", columns, rows, met, "summary.json equal to the bit")


def _equal(one: Location, other: Location) -> str:
    return "equal" if figures(one) == figures(other) else "no"
