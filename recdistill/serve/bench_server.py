"""A server of one's own: `recdistill serve` in a process that ends with the block."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from recdistill.errors import UserError

__all__ = ["Started", "started"]

ENDS = 20.0  # seconds for a server to answer what is under way


class Started(NamedTuple):
    """url: of the server; process: its id; ready: seconds from the command to the address."""

    url: str
    process: int
    ready: float


@contextmanager
def started(artefact: Path, options: Sequence[str] = ()) -> Iterator[Started]:
    """Serve an artefact on a free port of this machine; options: more of `recdistill serve`. UserError where it does
    not start, after its own line of why.
    """
    command = [sys.executable, "-m", "recdistill", "serve", str(artefact), "--port", "0", *options]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = next((re.search(r"http://\S+:\d+", line) for line in process.stdout or ()), None)
            if not found:
                raise UserError(f"recdistill serve {artefact} did not start")
            yield Started(found[0], process.pid, time.perf_counter() - began)
        finally:
            process.terminate()
            try:
                process.wait(ENDS)
            except subprocess.TimeoutExpired:
                process.kill()
