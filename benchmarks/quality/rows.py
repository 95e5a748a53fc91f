"""What a bound on rows costs where ids never end: `python benchmarks/quality/rows.py [--rows 10000000] [--bounds 1]`
(15 min of one core for the 1,000,000 rows and two seeds that are the default). Budget: the memory of tables bounded to
a tenth of the ids seen is the same from a tenth of the log to its end.

A simulated log in which 60 % of the users and of the items leave per day and others come, under ids never used before:
in 30 days 19 times as many as there are at a time. A DIN student learns each row once, from labels alone, as in a
stream: with a row for every id, and with tables bounded to a share of the ids seen. Each learns in a process of its
own, whose anonymous memory is read after every twentieth of the log; the later half is scored, each row before it was
learned. Gains are over the student with all rows, with their 95 % interval over users and seeds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import torch
from _common import report
from _paired import interval, recorded, replicates
from memory import anonymous

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.store.sample_store import SampleStore
from recdistill.evaluate.window import load_window
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, pairs_of
from recdistill.tables.events import EventLog
from recdistill.train import build

__all__ = ["main"]

DAYS, RENEW, PER_USER = 30, 0.6, 500  # rows of a place over the whole log: an id of 1 / 0.6 days has 28
BOUNDS = {"10 %": (0.1, 1), "10 %, admitted at the 2nd": (0.1, 2), "4 %": (0.04, 1)}
ALL, BLOCKS, BUDGET = "all", 20, 1.02
TABLES = ("_weight", "_first", "_second", "_steps", "_ready", "_frozen", "_place")


@dataclass(frozen=True)
class Learned:
    """What one student cost: bytes of its tables, and of the process, after each block; seconds."""

    tables: list[int]
    process: list[int]
    seconds: float


def experiment_of(rows: int, seeds: int, bounds: int) -> Experiment:
    """Return the log, and a student with all rows and one for each of the first bounds, s0, s1, ... in their order."""
    places, ids = rows // PER_USER, rows // PER_USER * (1 + RENEW * DAYS)
    options = (
        f"rows: {rows}, users: {places}, items: {places}, days: {DAYS}, renew_users: {RENEW}, renew_items: {RENEW}"
    )
    student = "kind: din, width: 16, history: 20, batch: 512"
    of_each = [f", rows: {{most: {int(share * ids)}, admit: {admit}}}" for share, admit in BOUNDS.values()]
    students = [f"s{at}: {{{student}{bound}}}" for at, bound in enumerate(["", *of_each[:bounds]])]
    return load_text(
        f"{{name: rows, data: {{reader: simulator, options: {{{options}}}}}, students: {{{', '.join(students)}}}, "
        f"evaluate: {{seeds: {list(range(seeds))}}}, checkpoint_rows: {rows // BLOCKS}}}"
    )


def used(table: GrowableTable) -> int:
    """Return the bytes of a table's rows that were ever written, and of what it keeps next to them."""
    rows = int(table._ready.sum()) * sum(getattr(table, name)[:1].nbytes for name in TABLES)
    places = [getattr(table, name) for name in ("held", "waiting") if hasattr(table, name)]
    return rows + sum(one.ids.nbytes + one.last.nbytes for one in places)


def learn(root: Path, experiment: Experiment, name: str, answer: multiprocessing.SimpleQueue[Learned]) -> None:
    """Train a job of an ingested run; answer with what it cost."""
    torch.set_num_threads(1)
    job = next(raw for pairs in pairs_of(experiment).values() for raw, _ in pairs if raw.name == name)
    trainer, start = build.trainer_of(RunFolder(root), experiment, job), time.perf_counter()
    tables, process = list[int](), list[int]()
    for progress in trainer.run_to_end():
        if progress.done < progress.total * (len(tables) + 1) // BLOCKS:
            continue
        tables.append(sum(used(table) for table in trainer.learner.tables))
        process.append(anonymous())
    answer.put(Learned(tables, process, time.perf_counter() - start))


def learned(root: Path, experiment: Experiment, job: Job) -> Learned:
    """Return what a job cost, learned in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.SimpleQueue[Learned] = context.SimpleQueue()
    process = context.Process(target=learn, args=(root, experiment, job.name, answer))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{job.name}: ended with {process.exitcode}")
    return answer.get()


def measure(rows: int, seeds: int, bounds: int, folder: Path) -> tuple[list[list[str]], bool]:
    """Return the table's rows, and whether bounded tables stayed as large as they were after a tenth of the log."""
    experiment = experiment_of(rows, seeds, bounds)
    with open_run(experiment, None, folder, trains=False) as run:
        ingest_stage(run, experiment, None)
        jobs = {name: [raw for raw, _ in pairs] for name, pairs in pairs_of(experiment).items()}
    costs = {name: [learned(folder, experiment, job) for job in of_seeds] for name, of_seeds in jobs.items()}
    store, events, evaluate = SampleStore(run.store), EventLog.open(run.tables / "events"), experiment.evaluate
    frame = load_window(events, events.version, "click", evaluate.start, evaluate.group)
    found = replicates(frame, {name: recorded(run, frame, of_seeds, "click") for name, of_seeds in jobs.items()})
    print(f"{store.users:,} users and {store.items:,} items seen in {rows:,} rows; {seeds} seeds")
    table, met, plain = [], True, found["s0"]
    for name, label in zip(jobs, (ALL, *BOUNDS), strict=False):
        first, early = costs[name][0], BLOCKS // 10 - 1
        sizes = [f"{of[early] / 2**20:,.1f} -> {of[-1] / 2**20:,.1f}" for of in (first.tables, first.process)]
        met &= label == ALL or first.tables[-1] <= BUDGET * first.tables[early]
        scores = [f"{abs(found[name][metric][0]):.4f}" for metric in ("gauc", "ne")]
        gains = [interval(found[name][metric] - plain[metric]) if label != ALL else "" for metric in ("gauc", "ne")]
        speed = f"{rows / first.seconds:,.0f}"
        table.append([label, *sizes, speed, scores[0], gains[0], scores[1], gains[1]])
    return table, met


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--bounds", type=int, default=len(BOUNDS), help="how many of them, the first ones")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, met = measure(asked.rows, asked.seeds, asked.bounds, Path(folder) / "run")
    columns = ["rows of the ids seen", "MiB of tables", "MiB of the process", "rows/s"]
    columns += ["GAUC", "gain", "NE", "gain (minus NE)"]
    return report(f"{asked.rows:,} rows whose ids never end", columns, table, met, f"tables <= {BUDGET} times")


if __name__ == "__main__":
    sys.exit(main())
