"""The programs of a loop, each a command that anyone may type; their output goes to files in the run's folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recdistill.errors import UserError

__all__ = ["Program", "command", "started"]

PATIENCE = 120.0  # seconds that a program may take to begin or to end
ADDRESS = re.compile(r"http://[^\s/]+")


def command(words: Sequence[str]) -> None:
    """Run a command of recdistill to its end, its output before the user; UserError where it fails."""
    done = subprocess.run([sys.executable, "-m", "recdistill", *words], stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise UserError(f"recdistill {words[0]} failed, as it says above")


class Program:
    """A running command of recdistill."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.words, self.log = list(words), log
        with log.open("ab") as file:
            self.begun = file.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "recdistill", *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def output(self) -> str:
        """Return what it has printed."""
        with self.log.open("rb") as file:
            file.seek(self.begun)
            return file.read().decode(errors="replace")

    def check(self, ended: bool = False) -> None:
        """Raise UserError where it failed, or, unless it was to end, is not there any more."""
        code = self.process.poll()
        if code is not None and (code or not ended):
            last = (self.output().strip().splitlines() or ["it printed nothing"])[-1]
            raise UserError(f"recdistill {self.words[0]} ended: {last.removeprefix('recdistill: ')}; see {self.log}")

    def address(self) -> str:
        """Return the address that it prints once it listens; UserError where it does not."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self.check()
            if found := ADDRESS.search(self.output()):
                return found[0]
            time.sleep(0.1)
        raise UserError(f"recdistill {self.words[0]}: no address within {PATIENCE:g} s; see {self.log}")

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def started(words: Sequence[str], log: Path) -> Iterator[Program]:
    """Give a running command, which ends with the context."""
    program = Program(words, log)
    try:
        yield program
    finally:
        program.stop()
