"""A command in a process of its own, forked from one that has imported everything: killed for real, started at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from recdistill.cli.app import main
from recdistill.workers.spawn import without_main

__all__ = ["forked"]

HEAVY = ["recdistill.app.run", "lightgbm", "torch._dynamo", "tests.support.forked"]  # what the first run imports


def forked(*words: object, **variables: str) -> tuple[int, str]:
    """Return (exit code, all that was printed) of a command with these variables; it trains in its own process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    with TemporaryDirectory() as folder, without_main():
        printed = Path(folder) / "printed"
        environment = {**os.environ, **variables}
        process = context.Process(target=_command, args=([*map(str, words)], environment, printed))
        process.start()
        process.join()
        return process.exitcode or 0, printed.read_text()


def _command(words: list[str], environment: dict[str, str], printed: Path) -> None:
    from recdistill.train import pool

    os.environ.update(environment)
    with printed.open("wb", 0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    pool.importable = lambda kind: False  # type: ignore[attr-defined,assignment]  # so that it trains here
    sys.argv = ["recdistill", *words]
    main()
