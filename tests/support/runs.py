"""A small run in this process, and comparisons bit for bit, shared by the tests of learn/."""

from __future__ import annotations

from pathlib import Path

import torch

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_by_name
from recdistill.train import build
from recdistill.train.trainer import Trainer

TINY = """
name: tiny
data: {reader: simulator, options: {rows: 400, users: 30, items: 40, days: 0.5}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50, replay: 1, replay_window: 100, epochs: 1}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 50, distill: {weight: auto}}}
evaluate: {seeds: [0], bootstrap: 20}
checkpoint_rows: 200
"""


def tiny(*assignments: str) -> Experiment:
    """Return the experiment with `key=value` overrides."""
    return load_text(TINY, list(assignments))


def ingested(root: Path, experiment: Experiment) -> RunFolder:
    """Ingest the experiment's log and build its store."""
    with open_run(experiment, None, root) as folder:
        ingest_stage(folder, experiment, None)
    return RunFolder(root)


def trainer(root: Path, experiment: Experiment, name: str) -> Trainer:
    """Return the trainer of one model of an ingested run."""
    return build.trainer_of(RunFolder(root), experiment, jobs_by_name(experiment)[name])


def finish(root: Path, experiment: Experiment, *names: str) -> None:
    """Ingest what is not ingested and train the named models to their end, one after the other."""
    ingested(root, experiment)
    for name in names:
        for _ in trainer(root, experiment, name).run_to_end():
            pass


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Return whether two flat states hold the same names, types and bits (NaN equals the same NaN)."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].numpy().tobytes() == other[name].numpy().tobytes()
        for name in one
    )


def by_id(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a learner's tensors, its tables in order of their ids, without bounded rows' clocks: each rank has one."""
    found = {name: value for name, value in tensors.items() if not name.endswith("clock")}
    for name in [name for name in found if name.startswith("table/")]:
        key = name.rpartition("/")[2].rpartition(".")[2]  # of a table or of one of its parts
        part = name.removesuffix(key)
        held = "ids" if f"{part}ids" in tensors else "rows"
        by = "waiting" if key in ("waits", "waiting", "waiting_last", "sightings") else held
        found[name] = found[name][torch.argsort(tensors[f"{part}{by}"])]
    return found
