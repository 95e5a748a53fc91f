"""Hot swaps: `python benchmarks/reliability/swaps.py [SWAPS]`. Budget: of all requests none fails, and none is answered
with the scores of another version than it names.

Two models are exported into one folder; `recdistill serve` serves it to CLIENTS connections that ask as fast as they
are answered, while the pointer names one and the other by turns, SWAPS (1,000) times, each once the one before was
taken over. Then the server is killed by SIGKILL and started again: the seconds to its first answer are printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from recdistill.api.run import Run
from recdistill.config.load import load_text
from recdistill.serve.bench_server import started
from recdistill.serve.client import Client, RankError
from recdistill.serve.pointer import Pointer, write_pointer
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer

__all__ = ["main"]

CLIENTS, RESTARTS = 2, 5
SAME = 1e-5  # difference of a score within a version; between the two it is far more
PATIENCE = 60.0  # seconds for a swap to be taken over
CONFIG = """
name: swaps
data: {reader: simulator, options: {rows: 4000, users: 200, items: 150, days: 1.0}}
teacher: {kind: din, width: 8, history: 20, batch: 100}
students: {light: {kind: pooled-mlp, width: 8, history: 5, batch: 100}}
evaluate: {seeds: [0]}
"""
HISTORY = {"items": [4, 5], "times": [1e8, 2e8], "actions": ["positive", "negative"]}
REQUEST = Request(3, list(range(1, 51)), 1e9, history=Past(*HISTORY.values()))


def close(some: list[float], other: list[float]) -> bool:
    """Return whether two lists of scores are of one version."""
    return all(abs(a - b) < SAME for a, b in zip(some, other, strict=True))


def not_answered(url: str) -> int:
    """Return how many requests the server itself counts as answered by another status than 200."""
    with urlopen(f"{url}/metrics") as answer:
        counted = re.findall(r'recdistill_rank_total\{status="(\d+)"\} (\d+)', answer.read().decode())
    return sum(int(count) for status, count in counted if status != "200")


class Asking(threading.Thread):
    """One connection; `seen` counts the answers by version, `wrong` those whose scores are another version's."""

    def __init__(self, url: str, wanted: dict[int, list[float]]) -> None:
        super().__init__(daemon=True)
        self.url, self.wanted, self.ends = url, wanted, False
        self.seen, self.wrong, self.failures = Counter[int](), 0, Counter[str]()
        self.newest = 0

    def run(self) -> None:
        """Ask until told to end."""
        with Client(self.url, seconds=30.0) as client:
            while not self.ends:
                try:
                    answer = client.rank(REQUEST.items, user=REQUEST.user, time=REQUEST.time, history=HISTORY)
                except RankError as error:
                    self.failures[str(error)] += 1
                    continue
                self.wrong += not close(answer.scores["click"], self.wanted[answer.version])
                self.seen[answer.version] += 1
                self.newest = answer.version


def _exported(place: Path) -> Path:
    run, root = Run.from_config(load_text(CONFIG), out=place / "run"), place / "versions"
    with contextlib.redirect_stdout(io.StringIO()):
        run.ingest()
        for model in ("teacher", "light.raw.s0"):
            run.train(model)
            run.model(model).export(root)
    return root


def _swap(root: Path, clients: list[Asking], version: int) -> bool:
    """Let the pointer name a version; return whether all clients were answered by it in time."""
    write_pointer(root, Pointer(version))
    until = time.monotonic() + PATIENCE
    while any(one.newest != version for one in clients) and time.monotonic() < until:
        time.sleep(0.001)
    return all(one.newest == version for one in clients)


def _restarts(root: Path) -> list[float]:
    """Return the seconds from the start of a server to its first answer, each killed before the next."""
    found = []
    for _ in range(RESTARTS):
        began = time.perf_counter()
        with started(root) as server, Client(server.url, seconds=30.0) as client:
            client.rank([1], user=1)
            found.append(time.perf_counter() - began)
            os.kill(server.process, signal.SIGKILL)
    return found


def main(swaps: int) -> int:
    """Serve, swap, kill; print what was found; return 0 within the budget."""
    with tempfile.TemporaryDirectory() as place:
        root = _exported(Path(place))
        wanted = {n: Scorer.open(root, version=n).rank(REQUEST)[:, 0].tolist() for n in (1, 2)}
        if close(wanted[1], wanted[2]):
            raise SystemExit("the two versions cannot be told from each other")
        with started(root) as server:
            clients = [Asking(server.url, wanted) for _ in range(CLIENTS)]
            for one in clients:
                one.start()
            began = time.perf_counter()
            taken = sum(_swap(root, clients, 1 + number % 2) for number in range(swaps))
            seconds = time.perf_counter() - began
            for one in clients:
                one.ends = True
                one.join()
            refused = not_answered(server.url)
        restarts = sorted(_restarts(root))
    failed, wrong = refused + sum(one.failures.total() for one in clients), sum(one.wrong for one in clients)
    table = Table("what", "found", "budget")
    table.add_row("swaps taken over", f"{taken:,}", f"{swaps:,}")
    table.add_row("requests answered meanwhile", f"{sum(one.seen.total() for one in clients):,}", "")
    table.add_row("requests failed", f"{failed:,}", "0")
    table.add_row("answers with another version's scores", f"{wrong:,}", "0")
    table.add_row("seconds a swap", f"{seconds / swaps:.3f}", "")
    table.add_row("kill -9, start, first answer: seconds", f"{restarts[RESTARTS // 2]:.2f}", "")
    Console().print(table)
    return int(taken < swaps or failed > 0 or wrong > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
