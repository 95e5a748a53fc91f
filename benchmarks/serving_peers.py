"""Our server beside others: `python benchmarks/serving_peers.py [--litserve PYTHON]`, two minutes.

The student of `_serving.py`: by `recdistill serve`, by FastAPI with the network in torch, and, where PYTHON is an
interpreter with LitServe, by that. The same requests of 200 candidates and 200 events to each, by turns: what it
answers at most, and its latencies at one rate for all, half of what the slowest answers. One process each, and
ours with two as well, for LitServe has one for HTTP besides the model's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from _common import report
from _serving import CANDIDATES, exported, requests, small_run

from recdistill.errors import UserError
from recdistill.serve.bench import most
from recdistill.serve.bench_load import arrivals, measured, open_loop
from recdistill.serve.bench_requests import http_bytes
from recdistill.serve.bench_server import started
from recdistill.serve.client import Address

MODEL, ROUNDS, SECONDS, START = "student.raw.s0", 3, 4.0, 60.0
HERE = Path(__file__).resolve().parent


@dataclass
class Server:
    """One server: where it is; requests a second at most, a round each; latencies in seconds; requests that failed."""

    address: Address
    most: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    failed: int = 0


@contextmanager
def peer(python: str, script: str, *given: object) -> Iterator[Address]:
    """Run a peer's server with an interpreter; packages that it has not are this one's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, sys.path[1:])])}
    with subprocess.Popen(
        [python, HERE / script, *map(str, given), str(port)], env=env, start_new_session=True
    ) as process:
        try:
            until = time.monotonic() + START
            while process.poll() is None and time.monotonic() < until:
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            else:
                raise SystemExit(f"{script}: it did not start; its own lines are above")
            yield Address("127.0.0.1", port, False, "/v1/rank")
        finally:
            with suppress(ProcessLookupError):  # LitServe leaves its own processes behind when it is terminated
                os.killpg(process.pid, signal.SIGKILL)


def check_same(servers: dict[str, Server], body: dict[str, object]) -> None:
    """Exit where a server's scores are not ours."""
    found = {}
    for name, one in servers.items():
        url = f"http://{one.address.host}:{one.address.port}{one.address.path}"
        asked = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        found[name] = np.array(list(json.loads(urlopen(asked).read())["scores"].values()))
    ours = next(iter(found.values()))
    for name, scores in found.items():
        if not np.allclose(scores, ours, atol=1e-4):
            raise SystemExit(f"{name}: its scores differ from ours by {np.abs(scores - ours).max():.2g}")


def measure(servers: dict[str, Server], bodies: list[dict[str, object]]) -> float:
    """Fill in what each server does, by turns; return the rate at which latencies were measured."""
    payloads = {name: http_bytes(one.address, None, bodies) for name, one in servers.items()}
    for _ in range(ROUNDS):
        for name, one in servers.items():
            one.most.append(most(one.address, payloads[name]))
    rate = min(float(np.median(one.most)) for one in servers.values()) / 2
    for number in range(ROUNDS):
        for name, one in servers.items():
            found = measured(open_loop(one.address, payloads[name], arrivals(rate, SECONDS, seed=number)))
            one.latency += found.latency[np.isfinite(found.latency)].tolist()
            one.failed += sum(found.failures.values())
    return rate


def main() -> int:
    """Measure and print."""
    lit = sys.argv[sys.argv.index("--litserve") + 1] if "--litserve" in sys.argv else None
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        folder = Path(root)
        artefact = exported(small_run(folder / "run"), MODEL, folder / "artefact")
        given = folder / "run", MODEL, artefact
        ours = Address.of(stack.enter_context(started(artefact)).url)
        servers = {"recdistill serve": Server(ours)}
        two = stack.enter_context(started(artefact, ["--workers", "2", "--threads", "1"]))
        servers["the same, --workers 2"] = Server(Address.of(two.url))
        servers["FastAPI and torch"] = Server(stack.enter_context(peer(sys.executable, "_serving_peer.py", *given)))
        if lit:
            servers["LitServe and torch"] = Server(stack.enter_context(peer(lit, "_serving_litserve.py", *given)))
        bodies = requests(artefact)
        check_same(servers, bodies[0])
        rate = measure(servers, bodies)
    base = float(np.median(servers["recdistill serve"].most))
    rows = [
        [
            name,
            f"{np.median(one.most) * CANDIDATES:,.0f}",
            f"{base / np.median(one.most):.1f}",
            *(f"{np.quantile(one.latency, q) * 1e3:.1f}" for q in (0.5, 0.99)),
            str(one.failed),
        ]
        for name, one in servers.items()
    ]
    columns = ("server", "candidates/s at most", "times fewer", "p50 ms", "p99 ms", "failed")
    title = f"The same requests, latencies at {rate:,.0f} a second"
    ours, others = (
        [float(np.median(one.most)) for name, one in servers.items() if ("torch" in name) == other]
        for other in (False, True)
    )
    return report(title, columns, rows, max(ours) > max(others), "ours answers the most")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
