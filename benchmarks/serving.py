"""What serving costs beside the network: `python benchmarks/serving.py [ARTEFACT [CANDIDATES]]`, of what was exported,
or of the student that the other benchmarks of serving have. One thread, without HTTP; the requests of `recdistill
bench-serve`, with as many events as the student reads.

Prints p50 and p99 of a request, candidates per second, and their ratio to a bare onnxruntime session that is fed with
ready tensors in the same run, by turns.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from _serving import CANDIDATES, exported, seconds, small_run

from recdistill.serve.bench_requests import drawn_requests, request_of
from recdistill.serve.scorer import Scorer

ROUNDS, EACH = 20, 50


def measure(artefact: Path, candidates: int) -> None:
    """Measure, by turns, and print."""
    scorer = Scorer.open(artefact)
    about = scorer.artefact.manifest
    requests = [request_of(body) for body in drawn_requests(scorer.artefact, candidates, about.history, EACH)]
    ready = [scorer.reader.arrays(one) for one in requests]
    seconds(scorer.rank, requests)
    served, bare = [], []
    for _ in range(ROUNDS):
        served.append(seconds(scorer.rank, requests))
        bare.append(seconds(scorer.logits, ready))
    whole = np.array(served)
    ratio = np.min(bare, 0).sum() / np.min(served, 0).sum()  # each at its fastest: other programs use the machine too
    print(f"{candidates} candidates, {about.history} events, {len(about.schema['features'])} features, {about.model}")
    print(f"p50 {np.quantile(whole, 0.5) * 1e3:.2f} ms, p99 {np.quantile(whole, 0.99) * 1e3:.2f} ms")
    print(f"{candidates / np.median(whole):,.0f} candidates/s, {ratio:.2f} of a bare session's")


def main() -> None:
    """Measure the artefact that is named, or make one."""
    given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        artefact = Path(given[0]) if given else exported(small_run(root / "run"), "student.raw.s0", root / "artefact")
        measure(artefact, int(given[1]) if len(given) > 1 else CANDIDATES)


if __name__ == "__main__":
    main()
