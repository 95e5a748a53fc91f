"""Beyond one machine: `python benchmarks/out.py [same kills writers workers]` (all four parts, 10 minutes on an idle
machine). Budget: nothing differs, is lost or twice.

same: one run in a folder and in buckets at two servers that imitate S3, moto and ministack, and at Azure's emulator
where azurite-blob is installed: MovieLens, whose
movielens_100k.parquet lies in --data, or a simulated log without that. kills: a run in a bucket killed by SIGKILL at
every named point, and --kills times at random at each server. writers: 16 processes that commit at once. workers:
the data read and predicted by 1, 2 and 4 processes and by Ray, for each of --rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from _out_kills import kills
from _out_same import same
from _out_workers import workers
from _out_writers import writers

PARTS = ("same", "kills", "writers", "workers")


def main() -> int:
    """Run the parts that are asked for; return 0 when all met their budgets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--data", type=Path, help="folder of movielens_100k.parquet")
    parser.add_argument("--kills", type=int, default=20, help="random kills at each server")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of random kills")
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000], help="sizes of the log that workers read")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    status = 0
    for part in asked.parts or PARTS:
        with tempfile.TemporaryDirectory() as name:
            status |= _run(part, Path(name), asked)
    return status


def _run(part: str, folder: Path, asked: argparse.Namespace) -> int:
    if part == "same":
        return same(folder, asked.data)
    if part == "kills":
        return kills(folder, asked.kills, asked.seed)
    return writers(folder) if part == "writers" else workers(sorted(asked.rows))


if __name__ == "__main__":
    sys.exit(main())
