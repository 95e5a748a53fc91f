"""Logs of commits do not grow for ever, and whoever goes on finds what it needs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import handed_over
from recdistill.stream.event_log import Journal
from recdistill.stream.gate.process import run_gate
from recdistill.stream.maintenance.compact import Housekeeper
from recdistill.stream.maintenance.retention import cut_logs, needed
from recdistill.stream.monitor.state import read_state
from recdistill.stream.workers.build import stream_checkpoints
from recdistill.tables.delta import log as delta_log
from recdistill.tables.delta.commits import version_before
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog, Verdicts
from tests.support.processes import exit_code
from tests.support.stream_runs import ROWS, StreamRun, copy_of, experiment_of, models_of, same_weights
from tests.support.tables import SCHEMA, events, followed, ids_of

CUT = (
    "import sys; from pathlib import Path; from recdistill.tables.delta.log import DeltaLog as D; "
    "D(Path(sys.argv[1])).cut(int(sys.argv[2]))"
)


@pytest.fixture(autouse=True, scope="module")
def often() -> Iterator[None]:
    """Let Delta write a checkpoint every tenth version."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(delta_log.PROPERTIES, "delta.checkpointInterval", "10")
        yield


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """Forty-five commits of two samples each, compacted in the middle."""
    made = EventLog.create(tmp_path / "events", SCHEMA)
    for k in range(45):
        made.append(events(range(2 * k, 2 * k + 2)), writer="ingest", sequence=k, metadata={"commit": str(k)})
        if k == 25:
            made.compact()
    return made


def oldest(log: DeltaLog) -> int:
    """Return the version of the oldest commit that is kept."""
    return min(
        int(name[:20]) for name in os.listdir(log.path / "_delta_log") if name[:20].isdigit() and name.endswith(".json")
    )


def test_a_cut_leaves_rows_and_order_and_those_who_follow_from_there(log: EventLog) -> None:
    before = ids_of(log.batches())
    after_33 = [(commit.version, commit.metadata) for commit in log.commits(33)]
    parts = log.parts()
    assert log.cut(33) == oldest(log) == 29
    fresh = EventLog.open(log.path)
    assert ids_of(fresh.batches()) == before == list(range(90)) and fresh.rows() == 90
    assert [(commit.version, commit.metadata) for commit in fresh.commits(33)] == after_33
    assert [part.path for part in fresh.parts()] == [part.path for part in parts] == [part.path for part in log.parts()]
    assert fresh.last_sequence("ingest") == 44 and fresh.last_commit("ingest") == log.last_commit("ingest")
    fresh.append(events(range(90, 92)), writer="ingest", sequence=45)
    assert ids_of(log.batches()) == list(range(92)) and ids_of(followed(log, log.version - 1)) == [90, 91]
    with pytest.raises(UserError, match="cleaned up"):
        list(fresh.commits(5, fresh.version))


def test_nothing_is_cut_where_no_checkpoint_stands_for_it(log: EventLog) -> None:
    assert log.cut(8) == log.cut(-1) == 0 and oldest(log) == 0


def test_a_cut_that_is_killed_leaves_a_whole_table(log: EventLog) -> None:
    assert exit_code(CUT, log.path, 33, point="compact.cut:7") == -signal.SIGKILL and 0 < oldest(log) < 29
    assert ids_of(EventLog.open(log.path).batches()) == list(range(90))
    assert log.cut(33) > 0 and oldest(log) == 29


def test_damage_to_the_checkpoint_that_stands_for_what_was_cut_is_noticed(log: EventLog) -> None:
    log.cut(33)
    path = log.path / "_delta_log" / f"{29:020d}.checkpoint.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"checkpoint\.parquet: the log of the table is damaged"):
        EventLog.open(log.path).parts()


def test_versions_are_found_by_the_time_of_their_commits(log: EventLog) -> None:
    for version in range(log.version + 1):
        os.utime(log.path / "_delta_log" / f"{version:020d}.json", (1000 + version, 1000 + version))
    assert [version_before(log.path, wall) for wall in (0, 1000, 1000.5, 1020, 9999)] == [-1, -1, 0, 19, log.version]


def test_what_is_known_of_versions_survives_merging_vacuum_and_cut(tmp_path: Path) -> None:
    verdicts = VerdictLog.create(tmp_path / "verdicts")
    for k in range(30):
        verdicts.append(
            VerdictLog.row("teacher", k, "quarantined" if k % 3 else "approved", rows=k), writer="gate", sequence=k
        )
    verdicts.append(VerdictLog.row("teacher", 1, "unquarantined"), writer="gate", sequence=30)
    before = Verdicts()
    before.update(verdicts)
    verdicts.compact()
    verdicts.vacuum(retain_hours=0)
    assert verdicts.cut(25) == 19
    after = Verdicts()
    after.update(verdicts)
    assert (after.bad, after.approved) == (before.bad, before.approved) and len(after.bad) == 19


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """A stream whose teacher and gate have ended, and whose students were killed after a third of it."""
    root = tmp_path_factory.mktemp("half") / "run"
    run = StreamRun(
        root, experiment_of("stream.undo_hours=1.0e-9", "stream.commit_rows=20", "stream.health.rows=100"), 1500
    )
    teacher, raw, distilled = models_of(run.experiment)
    for stop in range(1520, 2260, 20):
        run.feed(stop)
    assert run.process(raw, "checkpoint.published:1") == -signal.SIGKILL  # has read no further
    run.feed_all(list(range(2260, ROWS, 20)))
    run.run(teacher)
    run_gate(run.folder, run.experiment, Journal(run.folder.logs, "gate"))
    assert run.process(distilled, "checkpoint.published:1") == -signal.SIGKILL
    return run


def logs_of(run: StreamRun) -> dict[str, DeltaLog]:
    keeper = Housekeeper(run.folder, run.experiment, Journal(run.folder.logs, "compact"))
    keeper._open()
    return keeper.logs


def test_models_go_on_after_a_cut_as_if_there_had_been_none(half: StreamRun, tmp_path: Path) -> None:
    whole, cut = copy_of(half, tmp_path / "whole"), copy_of(half, tmp_path / "cut")
    gone = cut_logs(cut.folder, cut.experiment, logs_of(cut))
    assert gone["events"] >= 20 and handed_over(EventLog.open(cut.folder.tables / "events")) is not None
    assert oldest(EventLog.open(cut.folder.tables / "events")) <= needed_version(cut)
    for student in models_of(whole.experiment)[1:]:
        assert same_weights(whole.run(student), cut.run(student))
    assert whole.predictions().equals(cut.predictions())
    assert {model.name for model in read_state(cut.folder, cut.experiment).models} == {
        job.name for job in models_of(cut.experiment)
    }


def test_a_model_that_would_need_what_was_cut_is_refused(half: StreamRun, tmp_path: Path) -> None:
    run = copy_of(half, tmp_path / "run")
    cut_logs(run.folder, run.experiment, logs_of(run))
    raw = models_of(run.experiment)[1]
    checkpoints = stream_checkpoints(run.folder, raw.name)
    for block in checkpoints.blocks():
        checkpoints.discard(block)
    with pytest.raises(UserError, match=r"were cleaned up; nobody can start from there any more \(stream\.undo_hours"):
        run.run(raw)


def needed_version(run: StreamRun) -> int:
    states = [stream_checkpoints(run.folder, job.name) for job in models_of(run.experiment)]
    return min(checkpoints.state(checkpoints.blocks()[0])["versions"]["events"] for checkpoints in states)


def test_nothing_is_cut_while_a_model_has_yet_to_begin(half: StreamRun, tmp_path: Path) -> None:
    run = copy_of(half, tmp_path / "run")
    checkpoints = stream_checkpoints(run.folder, models_of(run.experiment)[1].name)
    for block in checkpoints.blocks():
        checkpoints.discard(block)
    assert needed(run.folder, run.experiment, models_of(run.experiment), logs_of(run)) == {}
    assert cut_logs(run.folder, run.experiment, logs_of(run)) == {}


def test_states_too_old_to_be_set_back_to_go_but_for_the_newest(half: StreamRun, tmp_path: Path) -> None:
    run = copy_of(half, tmp_path / "run")
    teacher = models_of(run.experiment)[0]
    before = stream_checkpoints(run.folder, teacher.name).blocks()
    cut_logs(run.folder, run.experiment, logs_of(run))
    assert len(before) > 2 and stream_checkpoints(run.folder, teacher.name).blocks() == before[-2:]


def test_without_undo_hours_behind_it_nothing_goes(half: StreamRun, tmp_path: Path) -> None:
    run = copy_of(half, tmp_path / "run")
    patient = Experiment.model_validate(
        run.experiment.model_dump() | {"stream": {**run.experiment.stream.model_dump(), "undo_hours": 1.0}}
    )
    assert cut_logs(run.folder, patient, logs_of(run)) == {}
    assert PredictionLog.open(run.folder.predictions).newest_metadata("teacher")
