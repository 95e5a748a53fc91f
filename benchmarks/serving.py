"""What serving costs beside the network: `python benchmarks/serving.py [ARTEFACT [CANDIDATES]]`, of what was exported,
or of the student that the other benchmarks of serving have. One thread, without HTTP; the requests of `recdistill
bench-serve`, with as many events as the student reads: with all features per candidate, then, as Globo's log has them,
with numbers per candidate and the others of the moment, then without features; then as arrays, not lists.

Prints p50 and p99 of a request, candidates per second, their ratio to a bare onnxruntime session that is fed with ready
tensors in the same run, by turns, and how long a request takes to be read into those tensors.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from _serving import CANDIDATES, exported, seconds, small_run

from recdistill.serve.bench_requests import drawn_requests, request_of
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer

ROUNDS, EACH = 20, 50


def measure(artefact: Path, candidates: int) -> None:
    """Measure, by turns, and print."""
    scorer = Scorer.open(artefact)
    about = scorer.artefact.manifest
    drawn = [request_of(body) for body in drawn_requests(scorer.artefact, candidates, about.history, EACH)]
    print(f"{candidates} candidates, {about.history} events, {len(about.schema['features'])} features, {about.model}")
    kinds = about.schema["features"]
    print_row("all per candidate", scorer, drawn)
    print_row("numbers per candidate", scorer, [of_moment(one, kinds) for one in drawn])
    print_row("no features", scorer, [replace(one, item_features={}) for one in drawn])
    print_row("all, as arrays", scorer, [as_arrays(one) for one in drawn])
    print_row("no features, as arrays", scorer, [as_arrays(replace(one, item_features={})) for one in drawn])


def of_moment(request: Request, kinds: dict[str, str]) -> Request:
    """Return a request whose features are of the moment, but for the numbers."""
    given = request.item_features
    moment = {name: values[0] for name, values in given.items() if kinds[name] != "float32"}
    numbers = {name: values for name, values in given.items() if kinds[name] == "float32"}
    return replace(request, features=moment, item_features=numbers)


def as_arrays(request: Request) -> Request:
    """Return a request as an Arrow body or binary tensors bring it: its numbers as arrays; it has none missing."""
    features = {name: np.array(values) for name, values in request.item_features.items()}
    past = request.history or Past()
    past = replace(past, items=np.array(past.items), times=np.array(past.times))
    return replace(request, items=np.array(request.items), item_features=features, history=past)


def print_row(shape: str, scorer: Scorer, requests: list[Request]) -> None:
    """Measure requests of one shape, by turns, and print a line."""
    ready = [scorer.reader.arrays(one) for one in requests]
    seconds(scorer.rank, requests)
    served, bare, read = [], [], []
    for _ in range(ROUNDS):
        served.append(seconds(scorer.rank, requests))
        bare.append(seconds(scorer.logits, ready))
        read.append(seconds(scorer.reader.arrays, requests))
    whole = np.array(served)
    fastest = [np.min(one, 0).sum() for one in (bare, served, read)]  # other programs use the machine too
    parts = [one / len(requests) * 1e3 for one in fastest]
    print(
        f"{shape:22} p50 {np.quantile(whole, 0.5) * 1e3:.2f} ms, p99 {np.quantile(whole, 0.99) * 1e3:.2f} ms, "
        f"{len(requests[0].items) / np.median(whole):,.0f} candidates/s, {fastest[0] / fastest[1]:.2f} of a bare "
        f"session's; at their fastest: {parts[1]:.2f} ms, the graph {parts[0]:.2f}, reading {parts[2]:.2f}"
    )


def main() -> None:
    """Measure the artefact that is named, or make one."""
    given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        artefact = Path(given[0]) if given else exported(small_run(root / "run"), "student.raw.s0", root / "artefact")
        measure(artefact, int(given[1]) if len(given) > 1 else CANDIDATES)


if __name__ == "__main__":
    main()
