"""What the benchmarks of serving share: a small simulated run with networks of the sizes that are compared, their
artefacts, and the requests that each of them gets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from recdistill.api.run import Run
from recdistill.config.load import load_text
from recdistill.serve.artefact import open_artefact
from recdistill.serve.bench_requests import drawn_requests

__all__ = ["CANDIDATES", "EVENTS", "STUDENT", "TEACHER", "exported", "requests", "seconds", "small_run"]

CANDIDATES, EVENTS = 200, 200
torch.set_num_threads(1)
# Sizes of examples/globo.yaml; the log is small, for how fast a network is does not depend on what it has learned.
TEXT = """
name: serving
data: {reader: simulator, options: {rows: 1600, users: 20, items: 20000}}
teacher: TEACHER_KEYS
teachers: {large: {preset: 10m, history: 200, batch: 64}}
students: {student: STUDENT_KEYS}
evaluate: {seeds: [0]}
"""
TEACHER = (
    "{kind: target-attention, width: 128, history: 200, batch: 64, "
    "options: {heads: 4, kernels: 4, rich: true, hidden: [256, 128]}}"
)
STUDENT = "{kind: target-attention, width: 16, history: 200, batch: 64, options: {kernels: 4, rich: true}, distill: {}}"


def small_run(folder: Path) -> Run:
    """Return a run in `folder` whose log is read and whose models are not trained."""
    text = TEXT.replace("TEACHER_KEYS", TEACHER).replace("STUDENT_KEYS", STUDENT)
    run = Run.from_config(load_text(text), out=folder)
    run.ingest()
    return run


def exported(run: Run, model: str, to: Path) -> Path:
    """Train a model of a small run, and return its artefact."""
    run.train(model)
    run.model(model).export(to)
    return to


def requests(artefact: Path, count: int = 50) -> list[dict[str, Any]]:
    """Return bodies of `CANDIDATES` and `EVENTS`; the same for every model of a run."""
    return drawn_requests(open_artefact(artefact), CANDIDATES, EVENTS, count)


def seconds(work: Callable[[Any], object], of: Sequence[Any]) -> list[float]:
    """Return how long each call took."""
    found = []
    for one in of:
        began = time.perf_counter()
        work(one)
        found.append(time.perf_counter() - began)
    return found
