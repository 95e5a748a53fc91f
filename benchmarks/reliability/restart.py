"""How long a stream takes to go on after kill -9: `python benchmarks/reliability/restart.py [KILLS] [BUSY]` (12, 0).

`recdistill stream` runs as typed, on tables. By turns one of its processes, the command itself, and everything at once
is killed; after the last two the same command is run again, as an operator's service manager would. What is measured is
the wall time from the kill until every process that died has said that it goes on (a line of its log). BUSY loops spin
beside it meanwhile. Budget: a median of 10 s beside two busy loops on two processors.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _stream import CONFIG, ROLES
from rich.console import Console
from rich.table import Table

__all__ = ["main"]

BUDGET = 10.0
PATIENCE = 300.0
SPIN = "while True: pass"
COMMAND = Path(sys.executable).with_name("recdistill")


def _begin(config: Path, run: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, COMMAND, "stream", config, "--out", run]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def _children(parent: int) -> dict[str, int]:
    """Return the pid of every role that runs below a process, by the last word of its command line."""
    found = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").rstrip("\0").split("\0")
        except OSError:
            continue
        if words[-1] in ROLES:
            found[words[-1]] = int(pid)
    return found


def _await(run: Path, roles: list[str], since: float) -> float:
    """Return the seconds from `since` until every one of the roles has written to its log."""
    while True:
        times = [_written(run / "logs" / f"{role}.jsonl") for role in roles]
        if all(at > since for at in times):
            return max(times) - since
        if time.time() - since > PATIENCE:
            raise SystemExit(f"{[r for r, at in zip(roles, times, strict=True) if at <= since]} did not go on")
        time.sleep(0.02)


def _written(log: Path) -> float:
    return log.stat().st_mtime if log.exists() else 0.0


@contextmanager
def _busy(loops: int) -> Iterator[None]:
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()


def _kills(place: Path, kills: int, draw: random.Random) -> dict[str, list[float]]:
    config, run = place / "stream.yaml", place / "run"
    config.write_text(CONFIG.format(rows=8000, speed=40.0, source="table"), encoding="utf-8")
    took: dict[str, list[float]] = {
        "the first start, batch phase and all": [],
        "a process": [],
        "all": [],
        "the command": [],
    }
    since, command = time.time(), _begin(config, run)
    try:
        took["the first start, batch phase and all"].append(_await(run, list(ROLES), since))
        for k in range(kills):
            command = _killed(("a process", "the command", "all")[k % 3], command, draw, took, config, run)
    finally:
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
    return took


def _killed(
    kind: str,
    command: subprocess.Popen[bytes],
    draw: random.Random,
    took: dict[str, list[float]],
    config: Path,
    run: Path,
) -> subprocess.Popen[bytes]:
    """Kill, begin again where the command was killed, and note how long it took; return the command that runs now."""
    since, roles = time.time(), list(ROLES)
    if kind == "a process":
        running = _children(command.pid)
        roles = [draw.choice(sorted(running))]
        os.kill(running[roles[0]], signal.SIGKILL)
    else:
        os.kill(command.pid, signal.SIGKILL) if kind == "the command" else os.killpg(command.pid, signal.SIGKILL)
        command.wait()
        command = _begin(config, run)
    took[kind].append(_await(run, roles, since))
    print(f"{kind} ({roles[0] if len(roles) == 1 else 'all roles'}): {took[kind][-1]:.1f} s", flush=True)
    return command


def main() -> int:
    """Kill and measure; the exit code is 0 within the budget."""
    kills, busy = (int(word) for word in (*sys.argv[1:], *("12", "0")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as place, _busy(busy):
        took = _kills(Path(place), kills, random.Random(0))
    table = Table("killed", "times", "median s", "largest s", title=f"going on after kill -9, {busy} busy loops beside")
    for kind, seconds in took.items():
        table.add_row(kind, str(len(seconds)), f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}")
    Console(width=120).print(table)
    each = [second for kind, seconds in took.items() if "first" not in kind for second in seconds]
    met = statistics.median(each) <= BUDGET
    print(f"budget a median of {BUDGET:g} s: {statistics.median(each):.1f} s, {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
