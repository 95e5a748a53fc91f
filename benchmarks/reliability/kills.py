"""kill -9 over every process of a stream: `python benchmarks/reliability/kills.py [KILLS]` (1,000). Budget: nothing
differs.

A small stream (table source, logs of commits that are cut) runs as its own processes: publish, ingest, gate, teacher,
raw and distilled student, compaction. One drawn at random is killed, again and again, at gaps drawn from 0 to 0.5 s,
and started again at once; when the stream has ended it is compared with one that was never killed, and the next begins.
The signals of the samples that wait in the student's checkpoints must be what the teacher's version predicted for these
very samples. Meanwhile versions drawn at random of random tables are read whole. Then every named kill point, 20 times
each, after a random number of times it was reached.

Processes are forked from one that has imported everything, so that a thousand kills take minutes; what an interpreter
and its imports take to start is measured apart, to be added to the recovery times.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
from _stream import MODELS, ROLES, Differences, Stream, differences, result_of
from rich.console import Console
from rich.table import Table

from recdistill.errors import UserError
from recdistill.stream.event_log import read_journals
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.delta.paths import commit_versions
from recdistill.testing.killpoints import KILL_POINTS

__all__ = ["POINTS", "by_points", "main", "random_kills"]

SECONDS, GAP, TIMES = 20.0, 0.5, 20
VICTIMS = (*ROLES, "compact")
POINTS = {
    "ingest": [p for p in KILL_POINTS if p.startswith("ingest") and p not in ("ingest.behaviors", "ingest.outcomes")],
    "gate": [p for p in KILL_POINTS if p.startswith("gate")],
    "compact": [p for p in KILL_POINTS if p.startswith("compact")],
    "teacher": [p for p in KILL_POINTS if p.startswith(("model", "checkpoint", "table"))],
    "light.distilled.s0": [p for p in KILL_POINTS if p.startswith(("model", "checkpoint"))],
}


def torn(stream: Stream, draw: random.Random) -> int:
    """Read a version of a table whole; return 1 when it does not hold exactly what its commits added.

    Compaction also cuts the logs, all but the last commits; what it cut meanwhile is no version to read any more.
    """
    path = draw.choice([stream.folder.tables / "events", stream.folder.predictions, stream.folder.verdicts])
    log = DeltaLog(path)
    version = draw.randint(max(0, log.version - 40), log.version)
    oldest = _oldest(log)
    try:
        added = log.rows(oldest) + sum(len(log.read(commit)) for commit in log.commits(oldest, version))
        return int(sum(map(len, log.batches(version))) != added)
    except UserError:
        if version >= oldest == _oldest(log):
            raise
        return 0


def _oldest(log: DeltaLog) -> int:
    """Return the version of the oldest commit that is kept; a checkpoint stands for those before."""
    return commit_versions(log.path)[0]


def random_kills(
    place: Path, kills: int, draw: random.Random, found: Differences, victims: Counter[str]
) -> list[float]:
    """Kill until there were `kills` or the stream has ended; return the seconds to each recovery."""
    stream, died, back = Stream(place, seconds=SECONDS), {}, []
    for role in VICTIMS:
        stream.start(role)
    due = time.monotonic() + draw.uniform(0, GAP)
    while any(role in stream.running for role in ROLES):
        for role, code in stream.ended().items():
            if code > 0:
                raise SystemExit(f"{role} failed with exit code {code}")
            if code < 0:
                stream.start(role)
        back += [time.time() - died.pop(role) for role in [r for r in died if _alive_again(stream, r, died[r])]]
        if sum(victims.values()) < kills and time.monotonic() >= due:
            role = draw.choice([role for role in VICTIMS if role in stream.running])
            os.kill(stream.running[role].pid or 0, signal.SIGKILL)
            victims[role] += 1
            died.setdefault(role, time.time())
            due = time.monotonic() + draw.uniform(0, GAP)
        found.torn_versions_seen += torn(stream, draw)
        time.sleep(0.02)
    stream.stop()
    return back


def _alive_again(stream: Stream, role: str, since: float) -> bool:
    """Return whether a process that was killed goes on: its journal has a line after the kill."""
    path = stream.folder.logs / f"{role}.jsonl"
    return role in stream.running and path.exists() and path.stat().st_mtime > since


def by_points(place: Path, times: int, draw: random.Random, victims: Counter[str]) -> None:
    """Run one stream in which every named kill point is met `times` times."""
    stream = Stream(place, rows=4000, seconds=None)
    left = {
        role: [(point, draw.randint(1, 3)) for point in points for _ in range(times)] for role, points in POINTS.items()
    }
    for role in left:
        draw.shuffle(left[role])

    def begin(role: str) -> None:
        point = left[role].pop() if left.get(role) else None
        stream.start(role, f"{point[0]}:{point[1]}" if point else "")

    for role in VICTIMS:
        begin(role)
    while any(role in stream.running for role in ROLES):
        for role, code in stream.ended().items():
            if code > 0:
                raise SystemExit(f"{role} failed with exit code {code}")
            if code == -signal.SIGKILL:
                victims[role] += 1
                begin(role)
        time.sleep(0.02)
    stream.stop()


def _start_of_an_interpreter() -> float:
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", "import recdistill.app.stream"], check=True)
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds)


def main() -> int:
    """Kill, compare; the exit code is 0 when nothing was lost, repeated or different."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    times = TIMES if kills >= 100 else 1
    draw, found, victims, points, back, again = random.Random(0), Differences(), Counter[str](), Counter[str](), [], []
    with tempfile.TemporaryDirectory() as folder:
        whole = Stream(Path(folder) / "whole")
        for role in ROLES:
            whole.start(role)
            whole.running[role].join() if role == "publish" else None
        while whole.running:
            whole.ended()
            time.sleep(0.05)
        want, streams = result_of(whole.root), 0
        while sum(victims.values()) < kills:
            place = Path(folder) / f"killed-{streams}"
            back += random_kills(place, kills, draw, found, victims)
            found.add(differences(want, result_of(place)))
            again += _predicted_again(place)
            streams += 1
        while sum(points.values()) < times * sum(map(len, POINTS.values())) and streams < 1000:
            place = Path(folder) / f"points-{streams}"
            by_points(place, max(1, times // 4), draw, points)
            found.add(differences(want, result_of(place)))
            streams += 1
    return _report(found, victims, points, back, again, streams)


def _predicted_again(place: Path) -> list[int]:
    lines = [
        line
        for line in read_journals(place / "logs", 10_000)
        if line["event"] == "resume" and line["process"] in MODELS
    ]
    return [int(str(line["again"])) for line in lines]


def _report(
    found: Differences, victims: Counter[str], points: Counter[str], back: list[float], again: list[int], streams: int
) -> int:
    table = Table("what", "count", title="kill -9 over the processes of a stream")
    for role, count in sorted(victims.items()):
        table.add_row(f"at random times: {role}", str(count))
    table.add_row("at random times, all", str(sum(victims.values())))
    for role, count in sorted(points.items()):
        table.add_row(f"at named points: {role}", str(count))
    table.add_row("streams compared with the one never killed", str(streams))
    for one in fields(found):
        table.add_row(one.name.replace("_", " "), str(getattr(found, one.name)))
    p50, p95 = np.quantile(back, [0.5, 0.95]) if back else (0.0, 0.0)
    table.add_row("seconds until it goes on: p50, p95, largest", f"{p50:.2f}, {p95:.2f}, {max(back, default=0):.2f}")
    table.add_row("to be added: seconds an interpreter takes to start", f"{_start_of_an_interpreter():.2f}")
    table.add_row(
        "rows predicted again per restart: median, largest",
        f"{statistics.median(again or [0]):.0f}, {max(again, default=0)}",
    )
    Console(width=120).print(table)
    met = found == Differences()
    print(f"budget nothing lost, twice, torn or different: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
