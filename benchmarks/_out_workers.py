"""Work on the data by several workers, a part of `out.py`.

For each number of rows, a simulated log of 40 Parquet files: ingest by 1, 2 and 4 processes and, where Ray is
installed, by 2 Ray tasks at a time. Of the smallest, a teacher that learned 50,000 rows: its predictions of the whole
log, likewise; and the scores of seven models, whose predictions are drawn, on its second half. Each in a process of its
own: seconds, cost per row, efficiency (time of one worker / time / workers), the largest peak of any process. Budget:
the rows and the summary are the same whoever wrote them, several workers' files byte by byte (one worker commits chunk
by chunk), and no process has more than 4 GiB.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _common import event_chunks, report

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.runs.batch_ingest import ingest, open_tables
from recdistill.runs.folder import RunFolder
from recdistill.tables.delta.log import DeltaLog

__all__ = ["workers"]

FILES, LIMIT, LEARNED = 40, 4.0, 50_000
WAYS = [("processes", 1), ("processes", 2), ("processes", 4)] + ([("ray", 2)] if find_spec("ray") else [])
MODELS = ["teacher", *(f"light.{variant}.s{seed}" for variant in ("raw", "distilled") for seed in range(3))]
TEXT = """
name: x
data:
  path: log
  columns: {sample_id: sample_id, tasks: {click: label_click}, time_unit: s, categorical: [device, country]}
teacher: {kind: target-attention, width: 32, history: 50}
students: {light: {kind: din, width: 8, history: 10}}
evaluate: {seeds: [0]}
"""


def write(folder: Path, rows: int) -> None:
    """Write the log of `rows` rows into `folder`/log."""
    (folder / "log").mkdir(parents=True)
    held: list[pl.DataFrame] = []
    files = iter(range(rows))
    for chunk in event_chunks(rows, max(rows // 50, 100), 5_000):
        held.append(chunk.rename(lambda name: name.removeprefix("feature_")))
        if sum(map(len, held)) >= rows // FILES:
            pl.concat(held).write_parquet(folder / "log" / f"{next(files):05d}.parquet")
            held = []
    if held:
        pl.concat(held).write_parquet(folder / "log" / f"{next(files):05d}.parquet")


def experiment(engine: str, count: int) -> Experiment:
    """Return the experiment with so many workers."""
    return load_text(TEXT, [f"workers.count={count}", f"workers.engine={engine}"])


def written(log: DeltaLog) -> dict[str, Any]:
    """Return what a table holds, its rows and its files, and remove it."""
    rows = hashlib.blake2b()
    for batch in log.batches():
        rows.update(batch.hash_rows().to_numpy().tobytes())
    files = [hashlib.blake2b((log.path / part.path).read_bytes()).hexdigest() for part in log.parts()]
    shutil.rmtree(log.path)
    return {"rows": rows.hexdigest(), "files": files}


def ingested(folder: Path, engine: str, count: int) -> DeltaLog:
    """Ingest the log into a run of its own; return the events."""
    run = RunFolder(folder / f"{engine}-{count}")
    ingest(run, experiment(engine, count), folder, lambda rows: None, print)
    return open_tables(run)[0]


def backfilled(folder: Path, engine: str, count: int) -> DeltaLog:
    """Predict the log of the run `trained` into a table of its own; return that."""
    from recdistill.runs.jobs import jobs_of
    from recdistill.tables.predictions import PredictionLog
    from recdistill.train.backfill import backfill
    from recdistill.workers.parts import Workers

    run = RunFolder(folder / f"scored-{engine}-{count}")
    run.root.mkdir()
    for name in ("models", "store", "tables", "run.json"):
        (run.root / name).symlink_to(folder / "trained" / name)
    PredictionLog.create(run.predictions, ("click",))
    asked = experiment(engine, count)
    backfill(run, asked, jobs_of(asked)[0], Workers(count, asked.workers.engine), lambda rows: None)
    return PredictionLog.open(run.predictions)


def draw(folder: Path) -> None:
    """Make the run `scored`, of the log of the run `trained`: predictions of seven models, drawn."""
    from recdistill.tables.events import EventLog
    from recdistill.tables.predictions import PredictionLog

    (folder / "scored").mkdir()
    (folder / "scored" / "tables").symlink_to(folder / "trained" / "tables")
    log = PredictionLog.create(folder / "scored" / "predictions", ("click",))
    for number, model in enumerate(MODELS):
        noise = np.random.default_rng(number)
        for sequence, rows in enumerate(EventLog.open(folder / "trained" / "tables" / "events").batches()):
            logit = rows["label_click"].fill_null(0.0).to_numpy() + noise.normal(0, 3 + number % 3, len(rows))
            predicted = rows.select("sample_id", "time").with_columns(logit_click=pl.Series(logit, dtype=pl.Float32))
            log.append(
                predicted, model=model, version=0, kind="prequential", writer=model, sequence=sequence, new_samples=True
            )


def evaluated(folder: Path, engine: str, count: int) -> str:
    """Score the models of the run `scored`; return the summary."""
    from recdistill.config.experiment import EvaluateConfig
    from recdistill.evaluate.model_facts import IMPORTED, ModelFacts, StudentModels
    from recdistill.evaluate.score import score
    from recdistill.workers.parts import Workers

    teacher, *students = (ModelFacts(name, number % 3, 0.0, IMPORTED, {}) for number, name in enumerate(MODELS, -1))
    pair, workers = StudentModels(students[:3], students[3:]), Workers(count, experiment(engine, count).workers.engine)
    config, tables = EvaluateConfig(seeds=[0, 1, 2], start=0.5), folder / "scored" / "tables"
    summary = score("x", tables, [teacher], {"light": pair}, config, workers=workers)
    return summary.model_dump_json(exclude={"created"})


def train(folder: Path) -> None:
    """Make the run `trained`: its teacher has learned the first rows."""
    from recdistill.app.run import ingest_stage, open_run
    from recdistill.runs.jobs import jobs_of
    from recdistill.train.build import trainer_of

    asked = load_text(TEXT, [f"checkpoint_rows={LEARNED}", "workers.count=2"])
    with open_run(asked, folder, folder / "trained") as run:
        ingest_stage(run, asked, folder)
        trainer = trainer_of(run, asked, jobs_of(asked)[0])
        steps = trainer.run_to_end()
        while trainer.checkpoints.newest() is None:
            next(steps)


Stage = Callable[[Path, str, int], DeltaLog | str]


def status(process: Path) -> dict[str, str]:
    """Return what /proc says of a process; nothing where it is gone."""
    try:
        return dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    except OSError:
        return {}


def peak() -> int:
    """Return the largest peak in KiB of this process and those below it, so far."""
    found = {int(one.name): status(one) for one in Path("/proc").iterdir() if one.name.isdigit()}
    mine, before = {os.getpid()}, 0
    while len(mine) > before:
        before = len(mine)
        mine |= {number for number, about in found.items() if int(about.get("PPid", 0)) in mine}
    return max(int(found[number].get("VmHWM", "0").split()[0]) for number in mine)


def run(stage: Stage, folder: Path, engine: str, count: int) -> None:
    """Run a stage, and write down what it took."""
    peaks, stop, start = [peak()], threading.Event(), time.perf_counter()

    def watch() -> None:
        while not stop.wait(0.1):
            peaks.append(peak())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        made = stage(folder, engine, count)
        seconds = time.perf_counter() - start
    finally:
        stop.set()
        thread.join()
    about = {"rows": made, "files": []} if isinstance(made, str) else written(made)
    about |= {"seconds": seconds, "gib": max(peaks) / 2**20}
    (folder / "about.json").write_text(json.dumps(about))


def measured(stage: Stage, folder: Path, engine: str, count: int) -> dict[str, Any]:
    """Return what a stage took in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=run, args=(stage, folder, engine, count))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{stage.__name__} by {count} {engine} failed")
    return dict(json.loads((folder / "about.json").read_text()))


def lines(name: str, stage: Stage, folder: Path, rows: int) -> tuple[list[list[str]], bool]:
    """Return the rows of the table, and whether all wrote the same."""
    found = [(way, measured(stage, folder, *way)) for way in WAYS]
    alone, several = found[0][1], [about for way, about in found[1:]]
    same = all(about["rows"] == alone["rows"] and about["files"] == several[0]["files"] for about in several)
    out = [
        [
            name,
            f"{rows:,}",
            f"{count} {engine}",
            f"{about['seconds']:.1f}",
            f"{about['seconds'] / rows * 1e6:.2f}",
            f"{alone['seconds'] / about['seconds'] / count:.2f}",
            f"{about['gib']:.2f}",
        ]
        for (engine, count), about in found
    ]
    return out, same and max(about["gib"] for _, about in found) <= LIMIT


def workers(sizes: list[int]) -> int:
    """Measure every stage, print them, and return 0 where the budget was met; sizes: rows, rising."""
    table, met = [], True
    for rows in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder, rows)
            stages = [("ingest", ingested)]
            if rows == sizes[0]:
                train(folder)
                draw(folder)
                stages += [("backfill", backfilled), ("evaluation", evaluated)]
            for title, stage in stages:
                found, fine = lines(title, stage, folder, rows)
                table, met = table + found, met and fine
    columns = ["work", "rows", "workers", "s", "us a row", "efficiency", "peak GiB"]
    title = f"workers, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}"
    return report(title, columns, table, met, f"same files and rows; a process at most {LIMIT:.0f} GiB")
