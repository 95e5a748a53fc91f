"""A command in a process of its own, forked from one that has imported everything: killed for real, started at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from recdistill.cli.app import main
from recdistill.workers.spawn import without_main

__all__ = ["forked", "forked_call", "started"]

HEAVY = ["recdistill.app.run", "lightgbm", "torch._dynamo", "tests.support.forked"]  # what the first run imports


def started(printed: Path, *words: object, **variables: str) -> BaseProcess:
    """Start a command with these variables, which trains in its own process and prints into a file."""
    return _started(_command, ([*map(str, words)], printed), variables)


def forked_call(call: Callable[..., object], *given: object, **variables: str) -> int:
    """Return the exit code of a process with these variables that makes one call."""
    process = _started(call, given, variables)
    process.join()
    return process.exitcode or 0


def _started(call: Callable[..., object], given: tuple[object, ...], variables: dict[str, str]) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    process = context.Process(target=_call, args=(call, given, {**os.environ, **variables}))
    with without_main():
        process.start()
    return process


def _call(call: Callable[..., object], given: tuple[object, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    call(*given)


def forked(*words: object, **variables: str) -> tuple[int, str]:
    """Return (exit code, all that was printed) of such a command."""
    with TemporaryDirectory() as folder:
        printed = Path(folder) / "printed"
        process = started(printed, *words, **variables)
        process.join()
        return process.exitcode or 0, printed.read_text()


def _command(words: list[str], printed: Path) -> None:
    from recdistill.train import pool

    with printed.open("wb", 0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    pool.importable = lambda kind: False  # type: ignore[attr-defined,assignment]  # so that it trains here
    sys.argv = ["recdistill", *words]
    main()
