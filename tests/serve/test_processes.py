"""Several processes on one port: one that is killed, all that are asked to end, the first that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.serving import Served, serving

BODY = json.dumps({"user": 3, "items": [1, 2, 3], "time": 1e9}).encode()
HEAD = b"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(
    BODY
)


def connection(served: Served) -> socket.socket:
    """Return a connection whose request a process has begun to read."""
    made = socket.create_connection(("127.0.0.1", served.port))
    made.sendall(HEAD + b"expect: 100-continue\r\n\r\n")
    assert made.recv(1000).startswith(b"HTTP/1.1 100 ")
    return made


def until(there: Callable[[], bool]) -> None:
    """Wait for what another process does, without a guess at how long that takes."""
    while not there():
        os.sched_yield()


def test_one_that_is_killed_is_started_again_and_counted(artefact: Path) -> None:
    with serving(artefact, "--workers", "2") as served:
        for _ in range(20):
            served.get("/v1/rank", BODY)
        killed, kept = served.others()
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(set(served.others()) - {killed, kept}) == 1)
        for _ in range(20):
            assert json.loads(served.get("/v1/rank", BODY))["version"] == 1
        until(lambda: served.metric("recdistill_restarts_total") == 1)
        assert served.metric("recdistill_rank_total") == 40 and served.metric("recdistill_candidates_total") == 120
        served.first.terminate()
        _, errors = served.first.communicate()
    assert errors.count("\n") == 1 and f"ended with {-signal.SIGKILL}; started again" in errors


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_asked_to_end_it_answers_what_it_is_at(artefact: Path, options: tuple[str, ...]) -> None:
    with serving(artefact, *options) as served, connection(served) as asking:
        served.first.terminate()
        until(lambda: refused(served.port))
        asking.sendall(BODY)
        assert asking.recv(1000).startswith(b"HTTP/1.1 200 ")
        _, errors = served.first.communicate()
    assert (served.first.returncode, errors) == (0, "")


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return True
    return False


def test_if_the_first_is_killed_the_others_end(artefact: Path) -> None:
    with serving(artefact, "--workers", "2") as served:
        others = served.others()
        served.first.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in others))


def test_what_cannot_be_served_is_refused_in_one_line(artefact: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recdistill", "serve", str(tmp_path), "--port", "0", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1 and "no artefact" in done.stderr
