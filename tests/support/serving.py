"""A server of `recdistill serve` in processes of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.children import children


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
        found = children(self.first.pid)
        return [pid for pid, words in found.items() if any("spawn_main" in word for word in words)]


@contextmanager
def serving(artefact: Path, *options: str) -> Iterator[Served]:
    served = Served(artefact, *options)
    with ExitStack() as end:
        end.callback(served.first.communicate)
        end.callback(served.first.terminate)
        yield served
