"""What a model of a stream is made of: its batch phase, and the connections that its kind of job needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from recdistill.checkpoint.store import Checkpoints
from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal, read_journals
from recdistill.stream.workers.build import base_of, run_model, stream_checkpoints, worker_of
from recdistill.stream.workers.worker import RestartFromCheckpoint, Worker
from recdistill.tables.events import EventLog
from tests.support.stream_runs import StreamRun, copy_of, experiment_of, models_of

DELAYED = "labels.window_s=60"
ALL = ("candidates.count=3", "candidates.window=70", "students.light.distill.candidates=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """A run with a batch phase of 1,000 rows, two blocks, and a teacher that has candidates."""
    torch.set_num_threads(1)
    return StreamRun(tmp_path_factory.mktemp("made") / "run", experiment_of(*ALL), 1000)


@pytest.fixture
def run(made: StreamRun, tmp_path: Path) -> StreamRun:
    return copy_of(made, tmp_path / "run")


def workers_of(run: StreamRun) -> list[Worker]:
    """Return the teacher's, the raw and the distilled student's."""
    journal = Journal(run.folder.logs, "test")
    return [worker_of(run.folder, run.experiment, job, journal) for job in models_of(run.experiment)]


def test_each_kind_of_job_gets_the_connections_it_needs(run: StreamRun) -> None:
    teacher, raw, distilled = workers_of(run)
    assert teacher.joiner is None and raw.joiner is None and distilled.joiner is not None
    assert teacher.cutter.scored is not None and distilled.cutter.scored is None
    assert teacher.cutter.learned is None and distilled.cutter.learned is not None
    assert (distilled.joiner.candidates, distilled.tables.candidates, raw.tables.candidates) == (2, 2, 0)
    assert all(worker.delayed is None for worker in (teacher, raw, distilled))
    late = run.experiment.model_copy(update={"labels": experiment_of(DELAYED).labels})
    assert worker_of(run.folder, late, models_of(late)[0], Journal(run.folder.logs, "test")).delayed is not None


def test_it_begins_with_the_weights_and_the_versions_of_the_batch_phase(run: StreamRun) -> None:
    for worker, job in zip(workers_of(run), models_of(run.experiment), strict=True):
        block, checkpoint = Checkpoints(run.folder.model(job.name)).latest()  # type: ignore[misc]
        tensors, _ = worker.learner.state()
        names = [name for name in checkpoint.tensors if name.startswith(("network", "table"))]
        assert names and all(torch.equal(tensors[name], checkpoint.tensors[name]) for name in names)
        assert worker.writer.versions.of(0) == block + 1 == 2
        assert worker.tables.versions["events"] == run.events.version
    base = base_of(run.folder)
    assert base is not None and len(base) == 1000


def test_a_batch_phase_that_has_not_ended_is_named(run: StreamRun) -> None:
    job = models_of(run.experiment)[1]
    checkpoints = Checkpoints(run.folder.model(job.name))
    checkpoints.discard(checkpoints.blocks()[-1])
    with pytest.raises(UserError, match=rf"{job.name} has not ended its batch phase; run: recdistill stream CONFIG"):
        worker_of(run.folder, run.experiment, job, Journal(run.folder.logs, "test"))


def test_without_a_hand_over_there_is_nothing_to_begin_with(run: StreamRun, tmp_path: Path) -> None:
    bare = RunFolder(tmp_path / "bare")
    EventLog.create(bare.tables / "events", run.log.schema)
    with pytest.raises(UserError, match="there was no hand-over from batch to stream"):
        worker_of(bare, run.experiment, models_of(run.experiment)[1], Journal(bare.logs, "test"))
    assert base_of(bare) is None


def test_a_model_that_must_go_back_is_built_and_resumed_again(run: StreamRun, monkeypatch: pytest.MonkeyPatch) -> None:
    job, calls = models_of(run.experiment)[1], []

    def follow(worker: Worker) -> None:
        calls.append(worker)
        if len(calls) < 3:
            raise RestartFromCheckpoint(f"teacher@{len(calls)}")

    monkeypatch.setattr(Worker, "run", follow)
    run_model(run.folder, run.experiment, job, Journal(run.folder.logs, job.name))
    assert len({id(worker) for worker in calls}) == 3
    why = [line["why"] for line in read_journals(run.folder.logs, 9) if line["event"] == "restart from checkpoint"]
    assert why == ["teacher@1", "teacher@2"]


def test_a_second_process_of_a_model_is_refused(run: StreamRun) -> None:
    job = models_of(run.experiment)[0]
    with (
        locked(run.folder.model(job.name) / "lock", "busy"),
        pytest.raises(UserError, match="another process runs this model"),
    ):
        run_model(run.folder, run.experiment, job, Journal(run.folder.logs, job.name))
    shutil.rmtree(run.root / "live", ignore_errors=True)
    assert stream_checkpoints(run.folder, job.name).blocks() == []
