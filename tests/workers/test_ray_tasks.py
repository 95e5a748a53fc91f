"""Parts as Ray tasks: the outcome, the errors and the losses are those of local processes, in every stage of a run."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recdistill.app.run import evaluate_stage, open_run
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.errors import RecdistillError, UserError
from recdistill.runs.batch_ingest import open_tables, workers_of
from recdistill.runs.folder import RunFolder
from recdistill.signals import recorded
from recdistill.signals.columns import join_column
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.validation import RowError
from recdistill.workers import ray_tasks
from recdistill.workers.ledger import ATTEMPTS
from recdistill.workers.parts import Workers, in_parts
from tests.support.part_work import doubled, folder_of, killed_at_first, missing, refused_from, variable_of, where
from tests.support.programs import needs
from tests.support.runs import finish, tiny

RAY = Workers(2, "ray")
MODELS = ("teacher", "light.raw.s0", "light.distilled.s0")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of this machine, which this process has joined."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A trained run."""
    root = tmp_path_factory.mktemp("ray") / "run"
    finish(root, tiny("checkpoint_rows=90"), *MODELS)
    return RunFolder(root)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match=r"^workers.engine: ray is not installed; run: pip install 'recdistill\[ray\]'$"
    ):
        list(in_parts(doubled, range(4), RAY))


@needs("ray")
def test_a_cluster_that_is_not_there_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"^workers.engine: no Ray cluster at 127.0.0.1:1: [^\n]*$"):
        list(in_parts(doubled, range(4), RAY))


def test_a_ray_that_does_not_come_up_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(address: str, **_: object) -> None:
        assert address == "local"  # or Ray joins what somebody started here, and takes no number of CPUs
        raise Exception("The current node timed out during startup.\nSee the logs.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(UserError, match=r"^workers.engine: no Ray cluster at this machine: The current node timed"):
        list(in_parts(doubled, range(4), RAY))


@pytest.mark.parametrize("mode", [None, "token"])
def test_a_cluster_that_answers_and_lets_nobody_in_may_want_a_token(
    mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.setenv("RAY_AUTH_MODE", mode) if mode else monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as head:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{head.getsockname()[1]}")
        with pytest.raises(UserError, match="Failed to connect to Ray cluster") as refused:
            list(in_parts(doubled, range(4), RAY))
    assert ("set RAY_AUTH_MODE=token" in str(refused.value)) == (mode is None)


def test_what_fails_on_another_machine_is_named_with_the_machine() -> None:
    here = ray_tasks._Asker.here()
    there = replace(here, machine="another")
    for work, kind, words in (
        (partial(refused_from, 0), UserError, "part 2 is refused"),
        (missing, RecdistillError, "No such file or directory: '/nowhere/2'"),
    ):
        failed, error = ray_tasks._at(there, work, 2)
        assert failed and type(error) is kind and words in str(error)
        assert str(error).endswith(f" (on the machine {here.machine})")
        assert "machine" not in str(ray_tasks._at(here, work, 2)[1])
    assert ray_tasks._at(there, doubled, 2) == (False, 4)


@needs("ray")
@pytest.mark.long
def test_parts_are_tasks_of_a_ray_of_this_machine(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(in_parts(doubled, range(20), RAY)) == [2 * part for part in range(20)]
    assert os.getpid() not in set(in_parts(where, range(6), RAY))
    _fails_as_processes_do()
    _survives_lost_workers(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://of-the-experiment")  # which the cluster was started without
    assert set(in_parts(folder_of, range(4), RAY)) == {str(tmp_path)}
    assert set(in_parts(variable_of, ["AWS_ENDPOINT_URL"] * 4, RAY)) == {"http://of-the-experiment"}


def _fails_as_processes_do() -> None:
    done = []
    with pytest.raises(RowError) as wrong:
        for part in in_parts(partial(refused_from, 5), range(9), RAY):
            done.append(part)
    assert done == [0, 1, 2, 3, 4] and str(wrong.value) == "file 5: row 5, is odd"
    assert (wrong.value.row, wrong.value.problem) == (5, "is odd")


def _survives_lost_workers(folder: Path) -> None:
    for times in (ATTEMPTS - 1, 99):
        (folder / str(times)).mkdir()
    found = in_parts(partial(killed_at_first, folder / str(ATTEMPTS - 1), ATTEMPTS - 1), range(6), RAY)
    assert list(found) == list(range(6))
    with pytest.raises(RecdistillError) as lost:
        list(in_parts(partial(killed_at_first, folder / "99", 99), range(6), RAY))
    assert str(lost.value).startswith(f"3: its worker was lost {ATTEMPTS} times (WorkerCrashedError; out of memory?)")
    assert len(list((folder / "99").iterdir())) == ATTEMPTS


@needs("ray")
@pytest.mark.long
def test_a_store_a_join_and_scores_are_the_same_to_the_bit(
    cluster: None, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PART_BYTES", "WORTH_BYTES"):
        monkeypatch.setattr(recorded, name, 1)
    found = []
    for engine in ("processes", "ray"):
        experiment, place = tiny("checkpoint_rows=90", "workers.count=2", f"workers.engine={engine}"), tmp_path / engine
        found.append([*_built(run, workers_of(experiment), place), _scored(run, experiment)])
    assert found[0] == found[1] and len(found[0]) > 20


def _built(run: RunFolder, workers: Workers, place: Path) -> list[tuple[str, bytes]]:
    """Return the files of the store, and those of the teacher's record joined to it."""
    events, behaviors = open_tables(run)
    build_store(place / "store", events, behaviors, workers=workers)
    predictions = PredictionLog.open(run.predictions)
    column = join_column(place / "joined", SampleStore(run.store), predictions, "teacher", workers=workers)
    assert len(predictions.files_of("teacher")) > 2 and not np.isnan(column).any()
    return [(path.name, path.read_bytes()) for path in sorted(place.rglob("*")) if path.is_file()]


def _scored(run: RunFolder, experiment: Any) -> Any:
    with open_run(experiment, None, run.root):
        return evaluate_stage(run, experiment).model_dump(exclude={"created"})
