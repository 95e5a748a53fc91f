"""What the processes of a stream are forked from: it must not have started threads that a fork would lose."""

from __future__ import annotations

import subprocess
import sys

THREADS = """
import importlib, pkgutil, torch._dynamo
from pathlib import Path
import recdistill
for found in pkgutil.walk_packages(recdistill.__path__, "recdistill."):
    if found.name.split(".")[1] in ("data", "tables", "runs", "stream", "train", "app"):
        try:
            importlib.import_module(found.name)
        except ImportError:
            pass  # of an extra
print(*{(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}, sep="\\n")
"""


def test_importing_everything_starts_no_pool_of_threads() -> None:
    """A pool of polars' that was started before a fork hangs the first process that uses it after."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("polars-") and name[7:].isdigit()]
