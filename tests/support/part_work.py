"""Work on parts for the tests of workers: functions that another process can import."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from recdistill.errors import UserError
from recdistill.tables.validation import RowError

__all__ = ["doubled", "folder_of", "imported", "killed_at_first", "missing", "refused_from", "variable_of", "where"]


def doubled(part: int) -> int:
    """Return twice the part."""
    return 2 * part


def where(part: int) -> int:
    """Return the process that works on the part."""
    return os.getpid()


def folder_of(part: int) -> str:
    """Return the folder that relative paths begin at."""
    return os.getcwd()


def variable_of(name: str) -> str | None:
    """Return a variable of the environment."""
    return os.environ.get(name)


def missing(part: int) -> bytes:
    """Read a file that is not there."""
    return Path(f"/nowhere/{part}").read_bytes()


def refused_from(first: int, part: int) -> int:
    """Refuse the parts from `first` on, the odd ones with the row that is wrong."""
    if part < first:
        return part
    raise RowError(f"file {part}", part, "is odd") if part % 2 else UserError(f"part {part} is refused")


def killed_at_first(folder: Path, times: int, part: int) -> int:
    """Die, as by `kill -9`, at the first `times` attempts at part 3; the attempts are counted in `folder`."""
    if part == 3:
        done = len(list(folder.iterdir()))
        (folder / str(done)).touch()
        if done < times:
            os.kill(os.getpid(), signal.SIGKILL)
    return part


def imported() -> set[str]:
    """Return the modules that this process has."""
    return set(sys.modules)
