"""FuxiCTR's DIN and DCN-v2 against our raw student: `python benchmarks/fuxictr_quality.py --fuxictr PATH --run RUN
--out FOLDER`.

RUN is a finished run of `recdistill run` or `ablate` on the same log; PATH a checkout of github.com/reczoo/FuxiCTR. The
peers get the run's own samples, histories, embedding width, seeds and window, one pass in time order, scored before
they learn. Their batch and learning rate are searched on the rows before the window alone, scored on that part's second
half: as many settings as examples/grids/search.yaml tries of our student. The user id is left out of what they see:
their optimiser writes every row of every table at each step. Whatever FOLDER holds already is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _peers import HERE, environment, padded
from fuxictr import REQUIREMENTS
from rich.console import Console
from rich.table import Table

from recdistill.data.store.sample_store import SampleStore
from recdistill.evaluate.metrics import score
from recdistill.evaluate.summary import load
from recdistill.evaluate.window import Frame, load_window
from recdistill.runs.folder import RunFolder
from recdistill.tables.events import EventLog
from recdistill.typing import Array

__all__ = ["main"]

KINDS, BATCHES, RATES = ("DIN", "DCNv2"), (64, 256), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
SEEDS = 3  # of the window; a seed of a peer takes ten minutes
NAMES = ("gauc", "auc", "ne")


def arrays_of(store: SampleStore, length: int) -> dict[str, Array]:
    """Return `padded` without the user, whatever context fields the log has."""
    found = padded(store, length, [f"context_{field}" for field in range(store.context.shape[1])])
    return {
        name: values if name == "label" else values.astype(np.int32) for name, values in found.items() if name != "user"
    }


def peer_logits(python: Path, folder: Path, asked: dict[str, Any]) -> Array:
    """Return float32 [rows], a peer's logits of the first rows; run it unless `folder` has it."""
    out = folder / ("-".join(str(asked[key]) for key in ("kind", "batch", "rate", "rows", "seed")) + ".npy")
    if not out.exists():
        part = out.with_suffix(".part.npy")
        done = subprocess.run(
            [python, HERE / "_fuxictr_quality_peer.py", json.dumps(asked | {"out": str(part)})],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{asked}: failed\n{done.stderr[-2000:]}")
        part.rename(out)
    return np.asarray(np.load(out))


def scores_of(frame: Frame, store: SampleStore, logits: Array, last: int) -> dict[str, float]:
    """Return the metrics of the last `last` of the rows that the logits [rows] are of."""
    first, ids = len(logits) - last, frame.ids
    place = dict(zip(store.sample_id[first : len(logits)].tolist(), range(last), strict=True))
    inside = np.fromiter((place.get(key, -1) for key in ids.tolist()), np.int64, len(ids))
    found = score(
        frame.samples.label[inside >= 0], logits[first:][inside[inside >= 0]], frame.samples.group[inside >= 0]
    )
    return {name: float(found.values[name] or 0.0) for name in NAMES}


def main() -> int:
    """Search, then run the best of each kind over the seeds, and print both tables."""
    parser = argparse.ArgumentParser(description="FuxiCTR's DIN and DCN-v2 against our raw student")
    for name in ("--fuxictr", "--run", "--out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    if None in (given.fuxictr, given.run, given.out):
        print("not measured: needs --fuxictr PATH, a checkout of github.com/reczoo/FuxiCTR, --run RUN and --out FOLDER")
        return 0
    python, run = environment("fuxictr", REQUIREMENTS), RunFolder(given.run)
    experiment, store = run.experiment(), SampleStore(run.store)
    student = next(iter(experiment.students.values()))
    events = EventLog.open(run.tables / "events")
    task, evaluate = store.tasks[0], experiment.evaluate
    before = int(len(store) * evaluate.start)
    frame = load_window(events, events.version, task, evaluate.start / 2, evaluate.group)
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "arrays.npz"
    if not file.exists():
        np.savez(file, **arrays_of(store, student.history))  # type: ignore[arg-type]
    asked = {"file": str(file), "checkout": str(given.fuxictr.resolve()), "width": student.width}
    console, table = Console(width=120), Table("model", "batch", "rate", *NAMES, title="search, before the window")
    final = Table("model", "batch", "rate", *NAMES, title=f"window, {SEEDS} seeds, standard deviation")
    for kind in KINDS:
        tried = {}
        for batch, rate in product(BATCHES, RATES):
            setting = asked | {"kind": kind, "batch": batch, "rate": rate}
            tried[batch, rate] = scores_of(
                frame, store, peer_logits(python, given.out, setting | {"rows": before, "seed": 0}), before // 2
            )
            table.add_row(kind, str(batch), f"{rate:g}", *(f"{tried[batch, rate][name]:.4f}" for name in NAMES))
        batch, rate = max(tried, key=lambda key: tried[key]["gauc"])
        setting = asked | {"kind": kind, "batch": batch, "rate": rate, "rows": len(store)}
        by_seed = [peer_logits(python, given.out, setting | {"seed": seed}) for seed in evaluate.seeds[:SEEDS]]
        runs = [scores_of(frame, store, logits, len(store) - before) for logits in by_seed]
        cells = [[one[name] for one in runs] for name in NAMES]
        final.add_row(
            kind, str(batch), f"{rate:g}", *(f"{statistics.mean(v):.4f} +- {statistics.pstdev(v):.4f}" for v in cells)
        )
    console.print(table)
    raw = load(run.root / "summary.json").models.raw
    final.add_row(
        "our raw student", "", "", *(f"{raw.metric(name):.4f} +- {raw.std.get(name) or 0:.4f}" for name in NAMES)
    )
    console.print(final)
    return 0


if __name__ == "__main__":
    sys.exit(main())
