"""Several processes on one port: one that is killed, all that are asked to end, the first that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from recdistill.api.run import Run
from tests.support.runs import finish, tiny

BODY = json.dumps({"user": 3, "items": [1, 2, 3], "time": 1e9}).encode()
HEAD = b"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(
    BODY
)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    finish(root / "run", tiny(), "teacher")
    Run(root / "run").model("teacher").export(root / "artefact")
    return root / "artefact"


class Served:
    """A server in processes of its own."""

    def __init__(self, artefact: Path, *options: str) -> None:
        command = [sys.executable, "-m", "recdistill", "serve", str(artefact), "--port", "0", *options]
        self.first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.first.stdout is not None
        line = self.first.stdout.readline()
        found = re.match(r"http://127.0.0.1:(\d+)/", line)
        assert found, (line, self.first.communicate())
        self.port = int(found[1])

    def get(self, path: str, body: bytes | None = None) -> str:
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        with urllib.request.urlopen(asked) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        rows = [line.rpartition(" ") for line in self.get("/metrics").splitlines() if line.startswith(name)]
        return sum(float(value) for _, _, value in rows)

    def others(self) -> list[int]:
        """Return the processes that serve."""
        children = Path(f"/proc/{self.first.pid}/task/{self.first.pid}/children").read_text().split()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return [pid for pid, command in commands.items() if b"spawn_main" in command]

    def connection(self) -> socket.socket:
        """Return a connection whose request a process has begun to read."""
        made = socket.create_connection(("127.0.0.1", self.port))
        made.sendall(HEAD + b"expect: 100-continue\r\n\r\n")
        assert made.recv(1000).startswith(b"HTTP/1.1 100 ")
        return made


@contextmanager
def serving(artefact: Path, *options: str) -> Iterator[Served]:
    served = Served(artefact, *options)
    with ExitStack() as end:
        end.callback(served.first.communicate)
        end.callback(served.first.terminate)
        yield served


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
    with serving(artefact, *options) as served, served.connection() as connection:
        served.first.terminate()
        until(lambda: refused(served.port))
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
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
