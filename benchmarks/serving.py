"""What serving costs beside the network: `python benchmarks/serving.py ARTEFACT [CANDIDATES]`, of what was exported.
One thread; requests of as many events as the student reads, one after the other.

Prints p50 and p99 of a request, candidates per second, and their ratio to a bare onnxruntime session that is fed with
ready tensors in the same run, by turns.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer

ROUNDS, EACH = 20, 50


def request(scorer: Scorer, candidates: int, draw: np.random.Generator) -> Request:
    """Return a request of a random user with a full history; features are left out, so each is missing."""
    items, users, about = len(scorer.artefact.items), len(scorer.artefact.users), scorer.artefact.manifest
    if scorer.artefact.items.text or scorer.artefact.users.text:
        raise SystemExit("the benchmark draws whole numbers; this artefact has ids of text")
    kinds = [about.actions[at] for at in draw.integers(0, max(len(about.actions), 1), about.history)]
    times = (1e9 - np.sort(draw.uniform(1, 1e6, about.history))[::-1]).tolist()
    past = Past(draw.integers(1, items + 1, about.history).tolist(), times, kinds)
    return Request(
        int(draw.integers(1, users + 1)), draw.integers(1, items + 1, candidates).tolist(), 1e9, history=past
    )


def seconds(work: object, of: list[object]) -> list[float]:
    """Return how long each call took."""
    found = []
    for one in of:
        began = time.perf_counter()
        work(one)  # type: ignore[operator]
        found.append(time.perf_counter() - began)
    return found


def main() -> None:
    """Measure, by turns."""
    scorer, candidates = Scorer.open(Path(sys.argv[1])), int(sys.argv[2]) if len(sys.argv) > 2 else 200
    draw = np.random.default_rng(0)
    requests = [request(scorer, candidates, draw) for _ in range(EACH)]
    ready = [scorer.reader.arrays(one) for one in requests]
    seconds(scorer.rank, requests)
    served, bare = [], []
    for _ in range(ROUNDS):
        served.append(seconds(scorer.rank, requests))
        bare.append(seconds(scorer.logits, ready))
    whole = np.array(served)
    ratio = np.min(bare, 0).sum() / np.min(served, 0).sum()  # each at its fastest: other programs use the machine too
    print(f"{candidates} candidates, {scorer.artefact.manifest.history} events, {scorer.artefact.manifest.model}")
    print(f"p50 {np.quantile(whole, 0.5) * 1e3:.2f} ms, p99 {np.quantile(whole, 0.99) * 1e3:.2f} ms")
    print(f"{candidates / np.median(whole):,.0f} candidates/s, {ratio:.2f} of a bare session's")


if __name__ == "__main__":
    main()
