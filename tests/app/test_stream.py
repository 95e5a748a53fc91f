"""The stream as a command runs it: what it refuses, which processes it has, and that one role may run alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.app.stream import batch_stage, roles_of, run_alone, run_role, score_stage
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import handed_over
from recdistill.runs.folder import RunFolder
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from tests.support.stream_runs import experiment_of

SMALL = ("data.options.rows=600", "stream.batch_rows=0")


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("teacher.stale={steps: 100}", "teacher.stale: a stream's teachers predict with their newest"),
        ("students.light.distill.start=0.5", "students.light.distill.start: a stream supports only 0.0"),
        ("students.light.distill.share=0.5", "students.light.distill.share: a stream supports only 1.0"),
        (
            "students.small={kind: pooled-mlp, width: 2, history: 5, batch: 50, distill: {weight: 1.0}, "
            "pruned_from: {student: light}}",
            "students.small.pruned_from: a stream trains each student by itself",
        ),
    ],
)
def test_what_only_a_batch_run_supports_is_refused_before_anything_is_made(
    tmp_path: Path, setting: str, problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        run_alone(experiment_of(setting), None, tmp_path / "run", "batch")
    assert not (tmp_path / "run").exists()


IN_BATCH = ["distill.warm_start={}", "start_from=runs/old/models/light.raw.s0", "rate_end=0.1"]
IN_BATCH += ["prune={from: {width: 64}}"]


@pytest.mark.parametrize("key", IN_BATCH)
def test_what_happens_in_the_batch_phase_needs_one(tmp_path: Path, key: str) -> None:
    problem = f"students.light.{key.partition('=')[0]}: happens in the batch phase, and stream.batch_rows is 0"
    with pytest.raises(UserError, match=problem):
        run_alone(experiment_of("stream.batch_rows=0", f"students.light.{key}"), None, tmp_path / "run", "batch")
    assert not (tmp_path / "run").exists()


def test_the_roles_are_those_of_the_source_and_the_models(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    models = ["teacher", "light.raw.s0", "light.distilled.s0"]
    assert roles_of(folder, experiment_of()) == (["publish", "ingest", "gate", *models], ["compact"])
    several = experiment_of("stream.replay=false", "stream.source={kind: kafka, readers: 2}", "teachers.big={}")
    assert roles_of(folder, several)[0] == ["ingest-0", "ingest-1", "gate", "teacher", "teacher-big", *models[1:]]


def test_a_role_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--role ingset: no such role; did you mean 'ingest'"):
        run_role(RunFolder(tmp_path), experiment_of(), None, "ingset")


def test_a_role_alone_needs_the_run_that_it_belongs_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        run_alone(experiment_of(), None, tmp_path / "run", "gate")
    run_alone(experiment_of(*SMALL), None, tmp_path / "run", "batch")
    with pytest.raises(UserError, match="holds another run"):
        run_alone(experiment_of(*SMALL, "teacher.width=8"), None, tmp_path / "run", "gate")


def test_the_batch_role_hands_over_once_and_the_others_fill_the_tables(tmp_path: Path) -> None:
    experiment, root = experiment_of(*SMALL, "stream.batch_rows=200"), tmp_path / "run"
    for _ in range(2):
        run_alone(experiment, None, root, "batch")
    folder = RunFolder(root)
    events = EventLog.open(folder.tables / "events")
    handed = handed_over(events)
    assert handed is not None and handed.rows == 200 == events.rows() and VerdictLog.open(folder.verdicts).rows() == 0
    with pytest.raises(UserError, match="has streamed nothing yet"):
        score_stage(folder, experiment)
    for role in ("publish", "ingest", "light.raw.s0"):
        run_alone(experiment, None, root, role)
    assert events.rows() == 600
    predictions = PredictionLog.open(folder.predictions).scan().collect()
    assert len(predictions.filter(model="light.raw.s0")) == 600
    batch_stage(folder, experiment, None)  # all done: nothing changes
    assert events.rows() == 600
