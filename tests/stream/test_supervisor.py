"""Processes of a stream, real ones: what fails, what is killed, and what is a helper's own trouble."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recdistill.app.run import open_run
from recdistill.app.stream import batch_stage
from recdistill.errors import RecdistillError, UserError
from recdistill.locks import locked
from recdistill.runs.folder import RunFolder
from recdistill.stream import supervisor
from recdistill.stream.event_log import Journal, read_journals
from recdistill.stream.prefork import Child, Prefork
from recdistill.stream.supervisor import supervise
from tests.support.children import children
from tests.support.stream_runs import experiment_of


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefork]:
    """What starts the processes of a run whose stream is about to begin, from tables, without a batch phase."""
    experiment, root = experiment_of("stream.batch_rows=0", "data.options.rows=600"), tmp_path_factory.mktemp("run")
    with open_run(experiment, None, root / "run") as folder, Prefork(folder.root) as made:
        batch_stage(folder, experiment, None)
        yield made


@pytest.fixture
def journal(processes: Prefork) -> Journal:
    """The log of a supervisor, empty."""
    folder = RunFolder(processes.root).logs
    for log in folder.glob("*.jsonl"):
        log.unlink()
    return Journal(folder, "stream")


def told(journal: Journal, event: str) -> list[dict[str, object]]:
    return [line for line in read_journals(journal.path.parent, 100) if line["event"] == event]


def code_of(child: Child) -> int:
    """Wait for a process; return its exit code."""
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    code = child.poll()
    assert code is not None
    return code


def test_a_helper_that_fails_is_told_and_ends_nobody(
    processes: Prefork, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "AGAIN", 0.0)
    watched = supervise(processes, ["gate"], ["nobody"], journal)
    while len(told(journal, "failed")) < 2:
        assert next(watched) == 1  # the gate, which waits for a teacher
    watched.close()
    assert {line["role"] for line in told(journal, "failed")} == {"nobody"}


def test_a_role_that_fails_ends_the_others(processes: Prefork, journal: Journal) -> None:
    with pytest.raises(UserError, match="nobody failed"):
        list(supervise(processes, ["gate", "nobody"], ["compact"], journal))


def test_a_role_that_is_killed_is_started_again(processes: Prefork, journal: Journal) -> None:
    watched = supervise(processes, ["gate"], [], journal)
    while not told(journal, "started"):
        next(watched)
    with pytest.raises(BlockingIOError), (processes.root / "lock.gate").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.kill(running(os.getpid())["gate"], signal.SIGKILL)
    while len(told(journal, "started")) < 2:
        next(watched)
    watched.close()
    assert [line["signal"] for line in told(journal, "started again")] == [9]
    with locked(processes.root / "lock.gate", None):  # for ever, while a gate runs
        pass


def running(parent: int) -> dict[str, int]:
    """Return the pid of every process that `parent` started, by the last word of its command line."""
    return {words[-1]: pid for pid, words in children(parent).items()}


def test_who_is_killed_too_often_ends_the_stream(
    processes: Prefork, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FORGIVEN", 2)
    with pytest.raises(RecdistillError, match="gate was killed 3 times within 600 s"):
        for _ in supervise(processes, ["gate"], [], journal):
            if (pid := running(os.getpid()).get("gate")) is not None:
                os.kill(pid, signal.SIGKILL)


def test_exit_codes_are_those_of_the_processes(processes: Prefork) -> None:
    assert code_of(processes.start("nobody")) == 2
    gate = processes.start("gate")
    gate.signal(signal.SIGKILL)
    assert code_of(gate) == -signal.SIGKILL and gate.poll() == -signal.SIGKILL
    gate.signal(signal.SIGKILL)  # nobody there


def test_the_template_may_be_killed_at_any_time(processes: Prefork) -> None:
    gate = processes.start("gate")
    while "gate" not in running(os.getpid()):  # before it goes on it ends with the template, and is started again
        continue
    template = running(os.getpid())["." * 128]
    os.kill(template, signal.SIGKILL)
    assert code_of(processes.start("nobody")) == 2 and gate.poll() is None
    gate.signal(signal.SIGTERM)
    assert code_of(gate) == 130


def test_a_template_that_cannot_begin_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with Prefork(tmp_path) as broken, pytest.raises(RecdistillError, match="cannot be started: exit code"):
        broken.start("gate")


SUPERVISOR = """
import os, signal, sys
from pathlib import Path
from recdistill.stream.prefork import Prefork
with Prefork(Path(sys.argv[1])) as processes:
    print(processes.start("gate").pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nobody_lives_on_without_the_supervisor(processes: Prefork) -> None:
    """A killed supervisor takes its processes along, so that they are not there twice when it is started again."""
    words = [sys.executable, "-c", SUPERVISOR, str(processes.root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout and int(made.stdout.readline())
        select.select([made.stdout], [], [], None)  # its end is held by the processes, too
        assert made.stdout.read() == "" and made.wait() == -signal.SIGKILL
    with locked(processes.root / "lock.gate", None):  # for ever, while a gate runs
        pass
