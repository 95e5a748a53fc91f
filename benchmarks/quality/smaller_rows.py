"""Quality against bytes of rows, for every way to have fewer: `python benchmarks/quality/smaller_rows.py` (5 min of one
core), or `--data DATA` for the first 100,000 rows of Globo's log instead of a simulated one.

A student learns three quarters of a log from labels alone, and ranks the last quarter with the weights that it then
has: rows that nothing was learned of. Its rows are exported as they are and in every smaller way; with them stand
students that were trained with narrower rows, and with bounded ones. Bytes are those of the rows' files; differences of
AUC, GAUC by user and NE are to the student's own rows as they are, paired by seed: mean and range over the seeds. No
budget: a table.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import numpy as np
from _common import report

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_file, load_text
from recdistill.export.smaller_rows import costs, window_rows
from recdistill.export.write import export
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, pairs_of
from recdistill.serve.rows import SmallerRows
from recdistill.train import build
from recdistill.train.predict import Predictor

__all__ = ["main"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "globo.yaml"
BLOCKS, ANY = 4, math.inf
STUDENT = "kind: din, width: {width}, history: 20, batch: {batch}"
# what is trained -> (its width, its bound as a share of the ids, further keys of the bound)
TRAINED = {
    "width 16": (16, 0.0, ""),
    "width 8": (8, 0.0, ""),
    "width 4": (4, 0.0, ""),
    "width 2": (2, 0.0, ""),
    "bounded to 30 %": (16, 0.3, ""),
    "bounded to 30 %, from the 2nd": (16, 0.3, ", admit: 2"),
    "shared, 30 %": (16, 0.3, ", share: remainder"),
    "shared, 10 %": (16, 0.1, ", share: remainder"),
    "shared, 30 %, with quotients": (16, 0.3, ", share: quotient-remainder"),
    "shared, 10 %, with quotients": (16, 0.1, ", share: quotient-remainder"),
    "bounded to 10 %": (16, 0.1, ""),
    "width 4, 10 % of 16": (16, 0.1, ", admit: 20, narrow: 4"),
    "width 2, 10 % of 16": (16, 0.1, ", admit: 20, narrow: 2"),
}
EXPORTED = {
    "float16": SmallerRows("float16", max_loss=ANY),
    "int8": SmallerRows("int8", max_loss=ANY),
    "int4": SmallerRows("int4", max_loss=ANY),
    "shortest 30 % left out": SmallerRows(drop=0.3, max_loss=ANY),
    "shortest 60 % left out": SmallerRows(drop=0.6, max_loss=ANY),
    "shortest 90 % left out": SmallerRows(drop=0.9, max_loss=ANY),
    "seen in fewer than 5 steps left out": SmallerRows(min_seen=5, max_loss=ANY),
    "seen in fewer than 20 steps left out": SmallerRows(min_seen=20, max_loss=ANY),
    "int4, shortest 30 % left out": SmallerRows("int4", drop=0.3, max_loss=ANY),
    "int4, seen in fewer than 5 steps left out": SmallerRows("int4", min_seen=5, max_loss=ANY),
}
SIMULATED = "rows: {rows}, users: 2000, items: 1500, topics: 20"
METRICS = ("auc", "gauc", "ne")
Figures = tuple[int, dict[str, float]]  # bytes, and scores by metric


def experiment_of(rows: int, seeds: int, globo: bool, ids: int) -> Experiment:
    """Return a log and its students, s0, s1, ... in the order of TRAINED. ids: of the larger side of the log."""
    students = []
    for at, (width, share, further) in enumerate(TRAINED.values()):
        bound = f", rows: {{most: {int(share * ids)}{further}}}" if share else ""
        students.append(f"s{at}: {{{STUDENT.format(width=width, batch=64 if globo else 256)}{bound}}}")
    keys = f"students: {{{', '.join(students)}}}, evaluate: {{seeds: {list(range(seeds))}, start: 0.75}}"
    keys = f"{keys}, checkpoint_rows: {rows // BLOCKS}"
    if globo:
        sets = [f"students={{{', '.join(students)}}}", f"data.limit={rows}", "candidates={count: 0}", "controls=[]"]
        sets += [f"evaluate={{seeds: {list(range(seeds))}, start: 0.75}}", f"checkpoint_rows={rows // BLOCKS}"]
        return load_file(EXAMPLE, sets)
    return load_text(f"{{name: rows, data: {{reader: simulator, options: {{{SIMULATED.format(rows=rows)}}}}}, {keys}}}")


def predictor_of(run: RunFolder, experiment: Experiment, job: Job) -> Predictor:
    """Return a job's model as it is after three quarters of the log."""
    trainer = build.trainer_of(run, experiment, job)
    for _ in trainer.run_to_end():
        if trainer.checkpoints.newest() == BLOCKS - 2:
            break
    return Predictor(run, experiment, job)


def as_it_is(predictor: Predictor, to: Path) -> Figures:
    """Return what a model's rows weigh as they are, and its scores."""
    place, _ = export(predictor, to, {})
    cost = costs(predictor, predictor, window_rows(predictor, 0.75))
    size = sum(path.stat().st_size for path in place.glob("table_*.npy"))
    return size, {name: cost[name][0] for name in METRICS}


def smaller(predictor: Predictor, to: Path, asked: SmallerRows) -> Figures:
    """Return what a model's rows weigh made smaller, and its scores with them."""
    _, manifest = export(predictor, to, {}, smaller=asked, start=0.75)
    return manifest.rows["bytes"][1], {name: manifest.rows[name][1] for name in METRICS}


def figures(run: RunFolder, experiment: Experiment, folder: Path) -> dict[str, list[Figures]]:
    """Return what was found of every way, one per seed."""
    found: dict[str, list[Figures]] = {}
    for name, pairs in zip(TRAINED, pairs_of(experiment).values(), strict=True):
        for raw, _ in pairs:
            predictor = predictor_of(run, experiment, raw)
            found.setdefault(name, []).append(as_it_is(predictor, folder / raw.name))
            for way, asked in EXPORTED.items() if name == next(iter(TRAINED)) else ():
                found.setdefault(way, []).append(smaller(predictor, folder / raw.name, asked))
    return found


def row_of(name: str, mine: list[Figures], plain: list[Figures]) -> list[str]:
    """Return a row of the table: bytes, their share, and the differences to the rows as they are."""
    size, whole = (float(np.mean([one for one, _ in of])) for of in (mine, plain))
    cells = [name, f"{size / 1e3:,.0f}", f"{size / whole:.2f}"]
    for metric in METRICS:
        if mine is plain:
            cells.append(f"{np.mean([scores[metric] for _, scores in mine]):.4f}")
            continue
        gaps = [scores[metric] - other[metric] for (_, scores), (_, other) in zip(mine, plain, strict=True)]
        cells.append(f"{np.mean(gaps):+.4f} ({min(gaps):+.4f} ... {max(gaps):+.4f})")
    return cells


def main() -> int:
    """Measure every way, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="folder of Globo's log (docs/howto/public-logs.md)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--ids", type=int, default=2_000, help="of users or items, whichever are more")
    asked = parser.parse_args()
    experiment = experiment_of(asked.rows, asked.seeds, asked.data is not None, asked.ids)
    with tempfile.TemporaryDirectory() as folder, open_run(experiment, asked.data, Path(folder) / "run") as run:
        ingest_stage(run, experiment, asked.data)
        found = figures(run, experiment, Path(folder))
    plain = found[next(iter(TRAINED))]
    rows = [row_of(name, mine, plain) for name, mine in found.items()]
    columns = ["rows", "kB", "share", "AUC", "GAUC", "NE (less is better)"]
    return report(f"{asked.rows:,} rows, {asked.seeds} seeds", columns, rows, True, "none")


if __name__ == "__main__":
    sys.exit(main())
