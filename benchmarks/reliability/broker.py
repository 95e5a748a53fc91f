"""nats-server killed under load: `python benchmarks/reliability/broker.py [KILLS]` (50). Budget: nothing lost, nothing
twice, in order.

`publish` replays a simulated log into a nats-server of the run's own and `ingest` reads it, each a process of its own,
while the server is killed with kill -9 at random moments and started again on its data. Half-way `ingest` is stopped
(SIGSTOP) for an hour of event time, and the backlog measured when it goes on. At the end the events table must hold the
log's rows, in its order, once.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from recdistill.app.run import open_run
from recdistill.app.stream import batch_stage
from recdistill.config.load import load_text
from recdistill.data.readers.factory import open_log
from recdistill.runs.folder import RunFolder
from recdistill.stream.progress import IngestProgress, read_progress
from recdistill.stream.sources.local_nats import local_nats
from recdistill.tables.events import EventLog

__all__ = ["main"]

GAP = (0.2, 1.2)  # seconds between two kills
DAYS, SPEED = 1.0, 1440.0  # of event time; event seconds a second: an hour is 2.5 s
CONFIG = """
name: broker
data: {{reader: simulator, options: {{rows: {rows}, users: 100, items: 100, days: {days}}}}}
stream: {{batch_rows: 0, speed: {speed}, commit_rows: 500, late_s: 1.0e+9, source: {{kind: nats, message_rows: 20}}}}
"""


@dataclass
class Figures:
    """What was done and seen. down: seconds until a killed server answered again."""

    kills: int = 0
    down: list[float] = field(default_factory=list)
    backlog: int = 0
    caught_up: float = 0.0


def _role(root: Path, role: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "recdistill", "role", str(root), role]
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def _taken(folder: RunFolder) -> IngestProgress:
    commit = EventLog.open(folder.tables / "events").last_commit("ingest")
    return (read_progress(IngestProgress, commit.about) if commit else None) or IngestProgress()


def _kill(root: Path, server: ExitStack, figures: Figures) -> None:
    """Kill the server, start it again on its data."""
    os.kill(int((root / "broker" / "server.pid").read_text()), signal.SIGKILL)
    start = time.monotonic()
    server.pop_all().close()
    server.enter_context(local_nats(root))
    figures.kills += 1
    figures.down.append(time.monotonic() - start)


def _pause(folder: RunFolder, ingest: subprocess.Popen[bytes], speed: float, figures: Figures) -> None:
    """Stop ingest for an hour of event time; wait until the backlog is in."""
    before = _taken(folder).rows
    ingest.send_signal(signal.SIGSTOP)
    time.sleep(3600 / speed)
    stopped = _taken(folder).watermark
    ingest.send_signal(signal.SIGCONT)
    start = time.monotonic()
    while _taken(folder).watermark < stopped + 3600 * 1e6 and ingest.poll() is None:
        time.sleep(0.01)
    figures.backlog, figures.caught_up = _taken(folder).rows - before, time.monotonic() - start


def _stream(root: Path, rows: int, kills: int, speed: float) -> Figures:
    """Run publish and ingest to their ends while the server is killed."""
    experiment = load_text(CONFIG.format(rows=rows, days=DAYS, speed=speed))
    with open_run(experiment, None, root) as folder:
        batch_stage(folder, experiment, None)
    draw, figures, paused = random.Random(0), Figures(), False
    with ExitStack() as server:
        server.enter_context(local_nats(root))
        publish = _role(root, "publish")
        while not _taken(folder).rows and publish.poll() is None:  # the stream is made by it
            if (folder.logs / "publish.jsonl").exists() and '"started"' in (folder.logs / "publish.jsonl").read_text():
                break
            time.sleep(0.05)
        ingest = _role(root, "ingest")
        while ingest.poll() is None:
            time.sleep(draw.uniform(*GAP))
            if figures.kills < kills:
                _kill(root, server, figures)
            if not paused and figures.kills >= kills // 2 and _taken(folder).rows and publish.poll() is None:
                paused = True
                _pause(folder, ingest, speed, figures)
        for role, process in (("publish", publish), ("ingest", ingest)):
            if process.wait(60):
                raise SystemExit(f"{role} failed with exit code {process.returncode}; see {folder.logs}")
    return figures


def main() -> int:
    """Kill, compare; the exit code is 0 when the table is the log."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seconds = kills * 1.5 + 30.0
    rows, speed = int(seconds * 500), DAYS * 86_400 / seconds
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "run"
        figures = _stream(root, rows, kills, speed)
        folder = RunFolder(root)
        want = pl.concat(list(open_log(folder.experiment().data, None).batches()))["sample_id"]
        log = EventLog.open(folder.tables / "events")
        got = pl.concat([log.read(commit, ["sample_id"]) for commit in log.commits(-1) if commit.parts])["sample_id"]
        dropped = _taken(folder).dropped
    lost, twice = len(set(want) - set(got)), len(got) - got.n_unique()
    order = got.equals(want)
    table = Table("what", "count", title=f"nats-server killed under load, {rows:,} rows in {seconds:.0f} s")
    for name, value in (
        ("kills", str(figures.kills)),
        ("rows lost", str(lost)),
        ("rows twice", str(twice)),
        ("rows dropped", str(sum(dropped.values()))),
        ("in order", str(order)),
        ("seconds until it answered: largest", f"{max(figures.down, default=0):.2f}"),
        ("ingest stopped for an hour of event time: rows behind", f"{figures.backlog:,}"),
        ("seconds to fill that in", f"{figures.caught_up:.2f}"),
    ):
        table.add_row(name, value)
    Console(width=120).print(table)
    met = order and not lost and not twice and not dropped and figures.kills >= kills and figures.backlog > 0
    print(f"budget nothing lost, nothing twice, in order: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
