"""Why the large model is not the one that is served: `python benchmarks/serving_teacher.py [FIGURE.svg]`, two minutes.

A student, its teacher (examples/globo.yaml's sizes) and a teacher of ten million dense parameters, exported and served
the same way: one request of 200 candidates and 200 events after the other, by turns, on one thread; then what a server
of each answers at most with two, and what its process holds. Networks are trained on 1,600 rows: that changes no speed.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from _common import report
from _serving import CANDIDATES, EVENTS, exported, requests, seconds, small_run

from recdistill.serve.bench import most
from recdistill.serve.bench_requests import http_bytes, request_of
from recdistill.serve.bench_server import started
from recdistill.serve.client import Address
from recdistill.serve.scorer import Scorer

MODELS = {"student": "student.raw.s0", "its teacher": "teacher", "a larger teacher (preset 10m)": "teacher-large"}
ROUNDS, EACH, COSTLY = 5, 20, 0.5  # a request longer than COSTLY seconds is sent a quarter as often


@dataclass
class Measured:
    """One model: seconds of each request, requests a second at most, MiB of the server's process and of the files."""

    seconds: list[float] = field(default_factory=list)
    most: float = 0.0
    memory: float = 0.0
    files: float = 0.0


def resident(process: int) -> float:
    """Return the memory of a process in MiB, the pages of its mapped files included."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def served(artefact: Path, found: Measured) -> None:
    """Measure a server of an artefact."""
    bodies = requests(artefact)
    with started(artefact) as server:
        address = Address.of(server.url)
        found.most = most(address, http_bytes(address, None, bodies))
        found.memory = resident(server.process)
    found.files = sum(path.stat().st_size for path in artefact.rglob("*") if path.is_file()) / (1 << 20)


def measured(folder: Path) -> dict[str, Measured]:
    """Return what each model costs."""
    run = small_run(folder / "run")
    artefacts = {name: exported(run, model, folder / model) for name, model in MODELS.items()}
    scorers = {name: Scorer.open(artefact) for name, artefact in artefacts.items()}
    found = {name: Measured() for name in MODELS}
    asked = [request_of(body) for body in requests(next(iter(artefacts.values())), EACH)]
    for scorer in scorers.values():
        scorer.rank(asked[0])
    for _ in range(ROUNDS):
        for name, scorer in scorers.items():
            slow = found[name].seconds and found[name].seconds[0] > COSTLY
            found[name].seconds += seconds(scorer.rank, asked[: EACH // 4] if slow else asked)
    for name, artefact in artefacts.items():
        served(artefact, found[name])
    return found


def row(name: str, one: Measured, base: Measured) -> list[str]:
    """Return a model's row, each number with how many times the student's it is."""
    p50, p99 = (float(np.quantile(one.seconds, q)) * 1e3 for q in (0.5, 0.99))
    times = np.median(one.seconds) / np.median(base.seconds)
    return [
        name,
        f"{p50:.1f}",
        f"{p99:.1f}",
        f"{times:.1f}",
        f"{one.most * CANDIDATES:,.0f}",
        f"{base.most / one.most:.1f}",
        f"{one.memory:,.0f}",
        f"{one.files:,.1f}",
    ]


def figure(found: dict[str, Measured]) -> str:
    """Return the picture: how long a request takes, and how many times the student's that is."""
    took = {name: float(np.median(one.seconds)) * 1e3 for name, one in found.items()}
    lines = []
    for at, (name, ms) in enumerate(took.items()):
        y, width = 56 + 44 * at, 340 * ms / max(took.values())
        lines.append(
            f'<text x="20" y="{y + 19}">{escape(name)}</text>'
            f'<rect x="250" y="{y}" width="{max(width, 2):.0f}" height="28" fill="{"#3a7" if at == 0 else "#c63"}"/>'
            f'<text x="{258 + width:.0f}" y="{y + 19}">{ms:.1f} ms, {ms / took["student"]:.1f} times</text>'
        )
    title = f"A request of {CANDIDATES} candidates and {EVENTS} events, on one thread, without HTTP"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 200" font-family="sans-serif" font-size="14">'
        f'<rect width="760" height="200" fill="#fff"/><text x="20" y="32" font-weight="bold">{title}</text>'
        f"{''.join(lines)}</svg>\n"
    )


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder))
    columns = ("model", "p50 ms", "p99 ms", "times", "candidates/s", "times fewer", "server MiB", "files MiB")
    rows = [row(name, one, found["student"]) for name, one in found.items()]
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(figure(found), encoding="utf-8")
    dearer = found["student"].most / found["its teacher"].most
    return report("The same requests to each model", columns, rows, dearer > 1, "the teacher is the dearer one")


if __name__ == "__main__":
    sys.exit(main())
