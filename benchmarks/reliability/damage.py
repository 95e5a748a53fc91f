"""Bits that flip, files cut short: `python benchmarks/reliability/damage.py [TRIALS]` (1,000). Budget: none goes
unnoticed.

A file of a table's data, of a table's log or of a checkpoint is drawn at random; one bit of it flips or its end is cut
off, at random. Everything is then read: every commit with its metadata and its rows, every row as it stands,
the newest checkpoint. Either an error reports the damage, or everything is as it was.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.errors import RecdistillError
from recdistill.stream.progress import IngestProgress, ModelProgress, to_metadata
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.tables.verdicts import VerdictLog

__all__ = ["contents", "main", "prepare", "trial"]

START, ROWS = 1_704_067_200_000_000, 200
KINDS = ("data", "log", "checkpoint")


def prepare(root: Path) -> None:
    """Make tables of a few commits each, one of them merged, and two checkpoints."""
    draw = np.random.default_rng(0)
    events = EventLog.create(root / "events", EventSchema(("click",), {"device": "int64"}))
    predictions = PredictionLog.create(root / "predictions", ("click",))
    verdicts = VerdictLog.create(root / "verdicts")
    for k in range(6):
        ids = np.arange(k * ROWS, (k + 1) * ROWS)
        times = pl.Series(START + ids * 1_000_000).cast(pl.Datetime("us", "UTC"))
        events.append(
            pl.DataFrame(
                {
                    "sample_id": ids,
                    "time": times,
                    "user_id": ids % 7,
                    "item_id": ids % 11,
                    "feature_device": ids % 3,
                    "label_click": (ids % 5 == 0).astype(np.float32),
                }
            ),
            writer="ingest",
            sequence=k,
            metadata=to_metadata(IngestProgress({"0": k}, rows=int(ids[-1]))),
        )
        rows = pl.DataFrame({"sample_id": ids, "time": times, "logit_click": draw.normal(size=ROWS).astype(np.float32)})
        predictions.append(
            rows,
            model="teacher",
            version=k,
            kind="prequential",
            writer="teacher",
            sequence=k,
            metadata=to_metadata(ModelProgress(k, int(ids[-1]))),
        )
        verdicts.append(VerdictLog.row("teacher", k, "approved", rows=ROWS), writer="gate", sequence=k)
    predictions.compact()
    for block in (1, 2):
        weights = torch.from_numpy(draw.normal(size=3000).astype(np.float32))
        Checkpoints(root / "checkpoints").publish(
            block, Checkpoint({"w": weights}, {"rows": block, "versions": {"events": 5}})
        )


def contents(root: Path) -> list[object]:
    """Return everything that a reader of the run relies on."""
    found: list[object] = []
    for name in ("events", "predictions", "verdicts"):
        log = DeltaLog(root / name)
        found += [log.schema_text, dict(log.types), log.rows()]
        found += [
            (commit.version, commit.metadata, commit.writers, log.read(commit).rows()) for commit in log.commits(-1)
        ]
        found += [frame.rows() for frame in log.batches()]
        found += [log.last_sequence(writer) for writer in ("ingest", "teacher", "gate")]
        found += [(part.path, part.partition, part.low, part.high) for part in log.parts()]
    latest = Checkpoints(root / "checkpoints").latest()
    found += [latest[0], latest[1].tensors["w"].tolist(), latest[1].state] if latest else [None]
    return found


def files_of(root: Path) -> dict[str, list[Path]]:
    """Return the files by kind."""
    every = [path for path in sorted(root.rglob("*")) if path.is_file()]
    # noqa: E731

    def kind(path):
        if "_delta_log" in path.parts:
            return "log"
        return "checkpoint" if "checkpoints" in path.parts else "data"

    return {name: [path for path in every if kind(path) == name] for name in KINDS}


def damage(path: Path, draw: random.Random) -> str:
    """Flip a bit of a file or cut off its end; return what was done."""
    data = bytearray(path.read_bytes())
    path.unlink()
    if draw.random() < 0.2:
        at = draw.randrange(len(data))
        path.write_bytes(data[:at])
        return f"cut at byte {at} of {len(data)}"
    at, bit = draw.randrange(len(data)), draw.randrange(8)
    before = bytes(data[max(at - 20, 0) : at + 20])
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {at} in {before!r}"


def trial(root: Path, path: Path, want: list[object], draw: random.Random) -> tuple[str, str]:
    """Damage a file and read; return (detected, harmless, fallback, UNNOTICED or UNCLEAR; what happened)."""
    what = damage(path, draw)
    try:
        got = contents(root)
    except RecdistillError as error:
        return "detected", str(error)
    except Exception as error:  # a benchmark counts them
        return "UNCLEAR", f"{path.relative_to(root)}: {what}: {type(error).__name__}: {error}"
    if got == want:
        return "harmless", ""
    if got[:-3] == want[:-3] and got[-3] == 1:
        return "detected", "the checkpoint before it is taken"
    return "UNNOTICED", f"{path.relative_to(root)}: {what}"


def main() -> int:
    """Damage and read; the exit code is 0 when nothing went unnoticed."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    draw, counts, wrong = random.Random(0), {kind: Counter[str]() for kind in KINDS}, []
    with tempfile.TemporaryDirectory() as folder:
        root, work = Path(folder) / "run", Path(folder) / "damaged"
        prepare(root)
        want = contents(root)
        for k in range(trials):
            kind = KINDS[k % len(KINDS)]
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(root, work)
            found, text = trial(work, draw.choice(files_of(work)[kind]), want, draw)
            counts[kind][found] += 1
            wrong += [f"{found}: {text}"] if found.isupper() else []
    table = Table("file", "detected", "harmless", "unnoticed", "unclear error", title=f"{trials} damaged files")
    for kind in KINDS:
        table.add_row(kind, *(str(counts[kind][name]) for name in ("detected", "harmless", "UNNOTICED", "UNCLEAR")))
    Console(width=120).print(table)
    for line in wrong[:40]:
        print(line[:300])
    print(f"budget none unnoticed, no unclear error: {'MISSED' if wrong else 'met'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
