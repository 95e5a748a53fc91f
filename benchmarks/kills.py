"""Kill -9 at random moments: `python benchmarks/kills.py [KILLS]` (100 kills, about 10 minutes). Budget: nothing
differs.

A small simulated run is started, killed at a random moment, started again by the same command, killed again, and so on;
whenever one reaches its end, its weights and tables are compared with those of a run that was never killed, and the
next one starts from nothing. A moment is a random number of changes to the run's folder, which spreads kills over its
life on a busy machine as on an idle one, and then up to 0.2 s more. Every other kill hits the main process alone, so
that its training processes are left behind as orphans; the others hit the whole group.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from recdistill.data.store.memmap import read_json
from recdistill.storage.location import Location, names
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog

__all__ = ["EXPERIMENT", "Differences", "Result", "differences", "ended", "kill", "result_of", "start"]

EXPERIMENT = """
name: kills
data: {reader: simulator, options: {rows: 3000, users: 60, items: 80, days: 1.0}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50, replay: 1, replay_window: 300, epochs: 1}
students:
  light: {kind: pooled-mlp, width: 4, history: 5, batch: 50, optimiser: rowwise-adagrad, distill: {weight: auto}}
evaluate: {seeds: [0], bootstrap: 20}
checkpoint_rows: 300
"""
CHANGES = 30  # at most, between a start and its kill; a whole run shows about twice as many
CLOCK = ("seconds", "waiting", "state_checksum")  # wall time, which no two runs share, and what covers it


def start(config: Path, folder: Path) -> subprocess.Popen[str]:
    """Start `recdistill run` in a process group of its own; its output is a pipe that all its processes hold."""
    command = [Path(sys.executable).with_name("recdistill"), "run", config, "--out", folder]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment
    )


def ended(process: subprocess.Popen[str], seconds: float) -> bool:
    """Return whether the run came to its end within `seconds`; SystemExit with what it said when that was a failure."""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    if process.returncode:
        raise SystemExit(f"the run failed with exit code {process.returncode}: {said}")
    return True


def changed(process: subprocess.Popen[str], folder: Path, changes: int) -> bool:
    """Return whether the run came to its end before `changes` changes to the files of `folder` were seen."""
    seen = None
    while changes >= 0:
        if ended(process, 0.02):
            return True
        now = sorted((place, *names) for place, _, names in os.walk(folder))
        changes, seen = changes - (now != seen), now
    return False


def kill(process: subprocess.Popen[str], group: bool) -> None:
    """Kill the process, or its whole group. Does not wait for orphans."""
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


@dataclass(frozen=True)
class Result:
    """What a run leaves: bytes of the newest checkpoints' tensors and their state by model, and the rows of
    both tables.
    """

    weights: dict[str, bytes]
    states: dict[str, object]
    events: pl.DataFrame
    predictions: pl.DataFrame


def result_of(folder: Location) -> Result:
    """Return the result in a run's folder, rows sorted by model and sample."""
    models = folder / "models"
    newest = {name: models / name / max(filter(str.isdigit, names(models / name))) for name in sorted(names(models))}
    states = {}
    for model, checkpoint in newest.items():
        state = read_json(checkpoint / "state.json")
        totals = {key: value for key, value in state["totals"].items() if key not in CLOCK}
        rest = {key: value for key, value in state.items() if key not in CLOCK}
        states[model] = (checkpoint.name, rest | {"totals": totals})
    events, predictions = EventLog.open(folder / "tables" / "events"), PredictionLog.open(folder / "predictions")
    return Result(
        {model: (checkpoint / "model.safetensors").read_bytes() for model, checkpoint in newest.items()},
        states,
        events.collect(events.scan()).sort("sample_id"),
        predictions.collect(predictions.scan()).sort("model", "sample_id"),
    )


@dataclass
class Differences:
    """Counts over all compared runs."""

    rows_lost: int = 0
    rows_twice: int = 0
    rows_that_differ: int = 0
    models_whose_weights_differ: int = 0

    def add(self, other: Differences) -> None:
        """Add another run's."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


def differences(want: Result, got: Result) -> Differences:
    """Compare a result with the one of an uninterrupted run, bit for bit."""
    found = Differences()
    for key, one, other in (
        (["sample_id"], want.events, got.events),
        (["model", "sample_id"], want.predictions, got.predictions),
    ):
        rows, distinct = other.select(key), other.select(key).unique()
        found.rows_lost += len(one.join(distinct, on=key, how="anti"))
        found.rows_twice += len(rows) - len(distinct)
        found.rows_that_differ += len(other.join(one, on=one.columns, how="anti", nulls_equal=True))
    for model in want.weights | got.weights:
        same = all(side(want).get(model) == side(got).get(model) for side in (lambda r: r.weights, lambda r: r.states))
        found.models_whose_weights_differ += not same
    return found


def stage_of(folder: Path, whole: Result) -> str:
    """Return what a run killed just now was at."""
    if not (folder / "tables").exists():
        return "start, reading the log"
    if not (folder / "store").exists():
        return "building the store"
    done = {model for model, state in whole.states.items() if (folder / "models" / model / state[0]).exists()}
    if len(done) == len(whole.states):
        return "scores and report"
    early = {model for model in whole.states if "distilled" not in model}
    return "distilled student" if early <= done else "teacher beside raw student"


def main() -> int:
    """Kill, resume, compare; the exit code is 0 when nothing was lost, repeated or different."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    draw, found, stages, compared = random.Random(0), Differences(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as place:
        config, whole = Path(place) / "kills.yaml", Path(place) / "whole"
        config.write_text(EXPERIMENT, encoding="utf-8")
        ended(start(config, whole), 600)
        want = result_of(whole)
        folder = Path(place) / "killed-0"
        while True:
            process, kills = start(config, folder), stages.total()
            if (
                kills < wanted
                and not changed(process, folder, draw.randrange(CHANGES))
                and not ended(process, draw.uniform(0, 0.2))
            ):
                kill(process, group=kills % 2 == 1)
                stages[stage_of(folder, want)] += 1
                continue
            if process.poll() is None and not ended(process, 600):
                raise SystemExit("the run hangs")
            found.add(differences(want, result_of(folder)))
            compared += 1
            if kills >= wanted:
                break
            folder = Path(place) / f"killed-{compared}"
    return _tell(stages, compared, found)


def _tell(stages: Counter[str], compared: int, found: Differences) -> int:
    table = Table("what", "count", title="kill -9 at random moments")
    for stage, kills in sorted(stages.items()):
        table.add_row(f"kills during: {stage}", str(kills))
    table.add_row("kills in all, half of them of the main process alone", str(stages.total()))
    table.add_row("runs resumed to their end and compared", str(compared))
    for each in fields(found):
        table.add_row(each.name.replace("_", " "), str(getattr(found, each.name)))
    Console(width=120).print(table)
    met = found == Differences()
    print(f"budget nothing lost, twice or different: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
