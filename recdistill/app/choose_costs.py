"""What serving the students of a round takes: each is exported, and its artefact answers requests."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recdistill.app.export import exported
from recdistill.app.progress import console, print_line
from recdistill.config.experiment import Experiment
from recdistill.data.store.memmap import read_json, write_json
from recdistill.evaluate.choice import Cost
from recdistill.evaluate.summary import LABELS
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, pairs_of
from recdistill.serve.bench_requests import drawn_requests, request_of
from recdistill.serve.bench_turns import by_turns
from recdistill.serve.rows import SmallerRows
from recdistill.train.trained import trained

__all__ = ["costs_of"]

REQUESTS, TIMES = 25, 8  # distinct requests that latency is measured with, and how often each is scored
COSTS, WHOLE = "costs.json", "whole "  # what the name begins with of a quantised student's rows as they are
QUANTISED = SmallerRows("int8", max_loss=math.inf)  # a loss is shown and counts, so none is refused


def costs_of(
    run: RunFolder, experiment: Experiment, candidates: int, quantised: Iterable[str], metric: str
) -> dict[str, Cost]:
    """Return what serving takes by student, measured once for requests of so many candidates, and kept; latencies by
    turns, so that what else the machine does meets all of them alike. quantised: students with rows of int8, of which
    is known what those rows cost them of `metric`, and what serving takes without.
    """
    path = run.root / COSTS
    if path.exists() and (kept := read_json(path)).get("candidates") == candidates:
        return {name: Cost(**cost) for name, cost in kept["costs"].items()}
    jobs = {name: pairs[0][1] for name, pairs in pairs_of(experiment).items()}
    with tempfile.TemporaryDirectory(dir=run.here, prefix=".export") as folder:
        with console.status("measuring what serving takes"):
            places, lost = _artefacts(run, experiment, jobs, Path(folder), [*quantised], metric)
            found = _measured(places, lost, candidates)
    costs = {name: cost.model_dump() for name, cost in found.items()}
    write_json(path, {"candidates": candidates, "costs": costs})
    return found


def _artefacts(
    run: RunFolder, experiment: Experiment, jobs: dict[str, Job], folder: Path, quantised: list[str], metric: str
) -> tuple[dict[str, Path], dict[str, float]]:
    """Return every student's artefact by name, of quantised ones another with the rows as they are, and what quantised
    rows took off the metric. Rows stay as they are where it has no value, so that what they take off is unknown.
    """
    places, lost = dict[str, Path](), dict[str, float]()
    for name, job in jobs.items():
        found = trained(run, job)
        places[name] = exported(run, experiment, job, folder / name, found)[0]
        if name not in quantised:
            continue
        small, manifest = exported(run, experiment, job, folder / name, found, smaller=QUANTISED)
        before, after = manifest.rows[metric]
        if None in (before, after):
            print_line(f"{name}: what rows of int8 take off {LABELS[metric]} is unknown here; they stay as they are")
            continue
        places[f"{WHOLE}{name}"], places[name], lost[name] = places[name], small, before - after
    return places, lost


def _measured(places: dict[str, Path], lost: dict[str, float], candidates: int) -> dict[str, Cost]:
    from recdistill.serve.scorer import Scorer  # needs onnxruntime, as the export before it does

    work = {}
    for name, scorer in {name: Scorer.open(place) for name, place in places.items()}.items():
        drawn = drawn_requests(scorer.artefact, candidates, scorer.artefact.manifest.history, REQUESTS)
        work[name] = (scorer.rank, [request_of(body) for body in drawn])
    seconds = by_turns(work, TIMES)
    found = {
        name: Cost(
            latency_ms=float(np.quantile(seconds[name], 0.99) * 1e3),
            memory_mib=sum(path.stat().st_size for path in place.iterdir()) / (1 << 20),
            lost=lost.get(name, 0.0),
        )
        for name, place in places.items()
    }
    names = [name for name in found if not name.startswith(WHOLE)]
    return {name: found[name].model_copy(update={"whole": found.get(f"{WHOLE}{name}")}) for name in names}
