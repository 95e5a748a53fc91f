"""Processes of a stream that start at once: forked from one that has imported everything and done nothing else.

    supervisor --- "ingest" ---> template --- fork, fork ---> ingest
        |       <--- its pid ---                                |
        +------------- parent of it, by adoption ---------------+

An interpreter and its imports take two seconds of a processor. A dozen of them together, all started again because the
machine or their parent went down, take half a minute and more where others are at work too; forked ones take a moment,
and share what they imported. The template imports and does nothing else, so that a fork of it is sound: threads that
work would be lost, with what they hold. It forks twice, and the supervisor adopts the orphan: it sees how its
processes end by itself, whatever becomes of the template. Linux alone has what this stands on.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from recdistill.errors import RecdistillError
from recdistill.storage.location import Location

__all__ = ["Child", "Prefork", "await_role"]

SUBREAPER, PARENT_DEATH = 36, 1  # of prctl(2)
TRIES = 5  # at a template that is killed before it answers
ROOM = 128  # bytes in its command line that a process writes its role into
ARG_END = 46  # field of /proc/PID/stat after the command's name
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A process that `Prefork` started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, negative: the signal that ended it, None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Prefork:
    """Starts the roles of the run in `root`. The template begins with the `with` block, and ends with it or with us."""

    def __init__(self, root: Location) -> None:
        self.root = root
        self._template: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    def __enter__(self) -> Prefork:
        _libc.prctl(SUBREAPER, 1, 0, 0, 0)
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._template is not None:
            self._template.kill()  # it may still be importing
        self._end()
        _libc.prctl(SUBREAPER, 0, 0, 0, 0)

    def _begin(self) -> socket.socket:
        self._line, theirs = socket.socketpair()
        command = [sys.executable, "-m", "recdistill", "role", str(self.root), "." * ROOM]
        with theirs:
            self._template = subprocess.Popen(command, stdin=theirs.fileno(), env=os.environ | {"OMP_NUM_THREADS": "1"})
        return self._line

    def _end(self) -> int:
        """Let the template end, and return its exit code."""
        if self._line is not None:
            self._line.close()
        self._line = None
        return self._template.wait() if self._template is not None else 0

    def start(self, role: str) -> Child:
        """Start a role; RecdistillError where the system has no room for it."""
        for _ in range(TRIES):
            line = self._line or self._begin()
            try:
                line.sendall(f"{role}\n".encode())
                answer = line.recv(32)
            except OSError:
                answer = b""
            if answer:
                if pid := int(answer):
                    return Child(pid)
                raise RecdistillError(f"{self.root}: {role} cannot be started: out of memory, or too many processes")
            if (code := self._end()) > 0:
                raise RecdistillError(
                    f"{self.root}: {role} cannot be started: exit code {code}; the line above says why"
                )
        raise RecdistillError(f"{self.root}: {role} cannot be started: what starts it is killed again and again")


def await_role() -> str | None:
    """Fork a process for every role that the supervisor names on our stdin; return None when it is gone.

    In a process that was forked, return the role that it is to run.
    """
    import torch._dynamo  # noqa: F401 - which the optimiser of every learner would import

    gc.freeze()  # what stands now is shared for good
    supervisor = os.getppid()
    with socket.socket(fileno=os.dup(0)) as line:
        while role := line.recv(256).decode().strip():
            forked = _forked(supervisor)
            if forked is None:
                _become(role)
                return role
            pid, go = forked
            with os.fdopen(go, "wb", 0) as begin, suppress(OSError):  # it, or the supervisor, is gone already
                line.sendall(str(pid).encode())
                begin.write(b"1")
    return None


def _forked(supervisor: int) -> tuple[int, int] | None:
    """Return (pid, a pipe that lets it go on) of a grandchild, pid 0 where none could be made; None in the grandchild.

    It goes on once the supervisor knows its pid: before that nobody would miss it.
    """
    answer_end, pid_end = os.pipe()
    held, go = os.pipe()
    between = _fork()
    if between == 0:
        if pid := _fork():
            os.write(pid_end, str(pid).encode())
            os._exit(0)
        for pipe in (answer_end, pid_end, go):
            os.close(pipe)
        _hold(held, supervisor)
        return None
    os.close(pid_end)
    os.close(held)
    if between > 0:
        os.waitpid(between, 0)
    with os.fdopen(answer_end, "rb") as answer:
        return max(int(answer.read() or b"0"), 0), go


def _hold(held: int, supervisor: int) -> None:
    """Wait to be let go, by then the supervisor's own child; end with it from then on, or at once if it is gone."""
    free = os.read(held, 1)
    os.close(held)
    _libc.prctl(PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    if not free or os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGKILL)


def _fork() -> int:
    """Fork; -1 where the system has no room for it."""
    try:
        return os.fork()
    except OSError:
        return -1


def _become(role: str) -> None:
    """Let go of the line to the supervisor, and show the role where `ps` looks."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    end = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[ARG_END])
    if end:
        ctypes.memmove(end - 1 - ROOM, role.encode()[:ROOM].ljust(ROOM, b"\0"), ROOM)
