"""A stream in an object store: what a local one records, whoever is killed, and another machine that goes on."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recdistill.app.run import open_run
from recdistill.app.stream import batch_stage, roles_of, run_alone, run_role, run_stream, score_stage
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.storage.location import Location, names
from recdistill.storage.objects import ObjectPath
from recdistill.stream.monitor.state import StateReader
from recdistill.stream.prefork import Prefork
from recdistill.stream.registry.revoke import lineage
from recdistill.stream.workers.build import stream_checkpoints
from recdistill.tables.predictions import PredictionLog
from recdistill.testing.killpoints import VARIABLE
from tests.support.commands import typed
from tests.support.forked import forked_call
from tests.support.stream_runs import same_weights

CONFIG = """
name: small
data: {reader: simulator, options: {rows: 700, users: 30, items: 30, days: 1.0}}
teacher: {kind: pooled-mlp, width: 4, history: 10, batch: 25}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 25, distill: {weight: 1.0}}}
evaluate: {seeds: [0], bootstrap: 20}
checkpoint_rows: 200
stream:
  {batch_rows: 300, checkpoint_rows: 150, commit_rows: 100, wait_s: 1.0e+9, late_s: 1.0e+9,
   source: {message_rows: 50}, health: {rows: 100, shift: 100, spread: 100, calibration: 100, ne: 100}}
"""
STUDENT = "light.distilled.s0"
pytestmark = pytest.mark.needs("obstore", "ministack")


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_text(CONFIG)


@pytest.fixture(autouse=True)
def trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the batch phase train in this process."""
    monkeypatch.setattr("recdistill.train.pool.importable", lambda kind: False)


@pytest.fixture(scope="module")
def local(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A stream in a folder, its roles one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recdistill.train.pool.importable", lambda kind: False)
        return streamed(tmp_path_factory.mktemp("local") / "run", experiment)


def streamed(place: Location, experiment: Experiment, killed: dict[str, str] | None = None) -> RunFolder:
    """Run a stream's roles one after the other, those that are to be killed in a process of their own before."""
    with open_run(experiment, None, place) as folder:
        batch_stage(folder, experiment, None)
        roles, _ = roles_of(folder, experiment)
        for role in sorted(roles, key=order):
            for point in [killed[role]] if killed and role in killed else []:
                assert forked_call(run_role, folder, experiment, None, role, **{VARIABLE: point}) == -signal.SIGKILL
            run_role(folder, experiment, None, role)
        score_stage(folder, experiment)
    return folder


def order(role: str) -> int:
    """A role's place: each after those that it reads from."""
    first = ("publish", "ingest", "teacher", "gate")
    return first.index(role) if role in first else len(first)


def predictions(folder: RunFolder) -> pl.DataFrame:
    log = PredictionLog.open(folder.predictions)
    return log.collect(log.scan().sort("model", "sample_id"))


def equal(one: RunFolder, other: RunFolder) -> bool:
    """Whether two streams recorded the same, and their student ended with the same weights, bit for bit."""
    newest = [stream_checkpoints(folder, STUDENT).latest() for folder in (one, other)]
    first, second = newest
    return (
        first is not None
        and second is not None
        and predictions(one).equals(predictions(other))
        and same_weights(first[1], second[1])
    )


def seen(folder: RunFolder, experiment: Experiment) -> list[Any]:
    """What the live page shows of the processes."""
    state = StateReader(folder, experiment).read()
    return [(one.name, one.status, one.rows) for one in state.processes]


def test_a_stream_records_what_a_local_one_does_though_its_processes_are_killed(
    bucket_of: Callable[[str], ObjectPath], experiment: Experiment, local: RunFolder, tmp_path: Path
) -> None:
    killed = {"ingest": "ingest.events:1", STUDENT: "model.recorded:2"}
    folder = streamed(bucket_of("ministack"), experiment, killed)
    assert equal(folder, local)
    assert seen(folder, experiment) == seen(local, experiment)
    assert {"source", "tables", "predictions", "verdicts", "summary.json"} <= names(folder.root)
    assert not {"live", "logs", "lock.gate", "lease.json"} & names(folder.root)
    assert "0 tables merged\n" in done("compact", folder.root)
    assert equal(folder, local)
    operated(folder.root, tmp_path / "served")


def operated(place: Location, to: Path) -> None:
    """Serve a student of a stream in a bucket from a folder, and undo it."""
    _, line = typed("promote", place, STUDENT, "--force")
    assert "versions are served from a folder; name it with --to" in line and not to.exists()
    assert "served: version 1\n" in done("promote", place, STUDENT, "--force", "--to", to)
    code, line = typed("rollback", place, "--to", to)
    assert code == 2 and "before version 1 none was served" in line
    version = next(iter(lineage(RunFolder(place), STUDENT)[-1].learned_from["teacher"]))
    assert f"teacher@{version}" in done("lineage", place, STUDENT)
    assert STUDENT in done("revoke", place, version, "--reason", "a test")
    assert f"revoked: teacher@{version}" in done("lineage", place, STUDENT)
    done("unquarantine", place, version)
    assert "revoked" not in done("lineage", place, STUDENT)


def done(*words: object) -> str:
    """Return what a command prints, which has to succeed."""
    code, printed = typed(*words)
    assert code == 0, printed
    return printed


@pytest.mark.long
def test_another_machine_learns_the_stream_anew_and_records_nothing_twice(
    bucket_of: Callable[[str], ObjectPath], experiment: Experiment, local: RunFolder
) -> None:
    folder = streamed(bucket_of("ministack"), experiment)
    shutil.rmtree(folder.local)
    assert equal(streamed(folder.root, experiment), local)


def test_what_a_stream_cannot_do_there_is_one_line(
    bucket_of: Callable[[str], ObjectPath], experiment: Experiment
) -> None:
    place = bucket_of("ministack")
    with pytest.raises(UserError, match="in an object store one command runs all of a stream; leave out --role"):
        run_alone(experiment, None, place, "gate")
    own = load_text(CONFIG, ["stream.source.kind=nats"])
    with pytest.raises(UserError, match=r"set stream\.source\.url"):
        run_stream(own, None, place, Prefork(place))
    assert names(place) == set()
