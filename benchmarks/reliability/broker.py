"""nats-server killed with kill -9 under load: `python benchmarks/reliability/broker.py [KILLS]` (50). Budget: nothing lost or out of order.

A log is replayed through a nats-server that is killed and started again at gaps of 0.2 to 0.8 s, while publish and ingest run;
in the middle ingest is stopped (SIGSTOP) for an hour of event time, and goes on. Afterwards the events table is compared, row by
row and in order, with the log.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _stream import Stream
from rich.console import Console
from rich.table import Table

from recdistill.data.readers import open_log
from recdistill.stream.broker import local_nats
from recdistill.stream.journal import read_journals
from recdistill.tables import EventLog

__all__ = ["main"]

SECONDS, HOUR = 45.0, 3600.0


def _server(root: Path) -> subprocess.Popen[bytes]:
    program = shutil.which("nats-server") or "/usr/sbin/nats-server"
    return subprocess.Popen([program, "-c", str(root.resolve() / "broker" / "server.conf")], stderr=subprocess.DEVNULL)


def _run(stream: Stream, kills: int, draw: random.Random) -> int:
    """Kill the server while rows flow; return how often it was killed."""
    with local_nats(stream.root):
        pass  # writes the settings, and gives the port
    server, killed, paused = _server(stream.root), 0, False
    for role in ("publish", "ingest"):
        stream.start(role)
    speed = stream.experiment.stream.speed or 1.0
    while stream.running:
        time.sleep(draw.uniform(0.2, 0.8))
        for role, code in stream.ended().items():
            if code:
                raise SystemExit(f"{role} failed with exit code {code}")
        if killed < kills:
            server.kill()
            server.wait()
            server, killed = _server(stream.root), killed + 1
        if killed >= kills // 2 and not paused and "ingest" in stream.running:
            pid, paused = stream.running["ingest"].pid or 0, True
            os.kill(pid, signal.SIGSTOP)
            time.sleep(HOUR / speed)
            os.kill(pid, signal.SIGCONT)
    server.terminate()
    return killed


def main() -> int:
    """Kill, compare; the exit code is 0 when the table holds the log."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as place:
        stream = Stream(Path(place) / "run", rows=8000, seconds=max(SECONDS * kills / 50, 8.0), source="nats")
        killed = _run(stream, kills, random.Random(0))
        want = [k for rows in open_log(stream.experiment.data, None).batches() for k in rows["sample_id"].to_list()]
        events = EventLog.open(stream.folder.tables / "events")
        got = [k for rows in events.batches(columns=["sample_id"]) for k in rows["sample_id"].to_list()]
        lines = read_journals(stream.folder.logs, 10_000)
    table = Table("what", "count", title="nats-server killed under load")
    waits = sum(line["event"] == "waiting for the broker" for line in lines)
    order = sum(a != b for a, b in zip(want, [k for k in got if k in set(want)], strict=False))
    counts = {"kills": killed, "times a process waited for it": waits, "rows of the log": len(want), "rows lost": len(set(want) - set(got)),
              "rows twice": len(got) - len(set(got)), "rows out of order": order}  # fmt: skip
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    Console(width=120).print(table)
    met = want == got and killed == kills
    print(f"budget nothing lost, twice or out of order in {kills} kills: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
