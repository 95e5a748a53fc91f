"""Candidates in a stream: they are scored and learned from as batch alone does it, whatever commits and
kills.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recdistill.app.stream import run_stream
from recdistill.checkpoint.store import Checkpoints
from recdistill.runs.folder import RunFolder
from recdistill.signals.columns import CANDIDATES
from recdistill.stream.prefork import Prefork
from recdistill.stream.workers.build import stream_checkpoints
from recdistill.tables.predictions import PredictionLog
from tests.support.stream_runs import ROWS, StreamRun, copy_of, ends_as, experiment_of, models_of, same_tensors
from tests.support.sweeps import swept

SCORED = ("candidates.count=3", "candidates.window=700", "students.light.distill.candidates=2")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """The same log, all of it learned in batch."""
    return StreamRun(tmp_path_factory.mktemp("whole") / "run", experiment_of(*SCORED), ROWS)


@pytest.mark.parametrize("batch", [1500, 0])
def test_batch_and_stream_do_what_batch_alone_does(whole: StreamRun, tmp_path: Path, batch: int) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(*SCORED), batch)
    run.feed_all([1600, 1601, 2222])
    run.approve(range(6))
    for job in models_of(run.experiment):
        assert ends_as(whole, job, run.run(job))
    predictions = run.predictions()
    assert predictions.equals(whole.predictions())
    scored = predictions.filter(model="teacher")[CANDIDATES]
    assert (scored.bin.size() == 2 * 3 * 2).all() and predictions.filter(model="light.raw.s0")[
        CANDIDATES
    ].null_count() == ROWS


def test_the_candidates_were_learned_from(whole: StreamRun, tmp_path: Path) -> None:
    plain = StreamRun(tmp_path / "run", experiment_of(*SCORED[:2]), ROWS)
    one, other = (Checkpoints(run.folder.model("light.distilled.s0")).latest()[1] for run in (whole, plain))
    assert not same_tensors(one, other)


@pytest.mark.parametrize("point", swept(["model.predicted:13", "checkpoint.published:2", "table.commit:4"]))
def test_who_is_killed_does_the_same_again(whole: StreamRun, tmp_path: Path, point: str) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(*SCORED), 1500)
    run.feed_all([1600, 1601, 2222])
    run.approve(range(6))
    for job in models_of(run.experiment):
        assert run.process(job, point) == -9
        assert ends_as(whole, job, run.run(job))
    assert run.predictions().equals(whole.predictions())


def test_a_bad_version_gives_no_signals(tmp_path: Path) -> None:
    """Of a quarantined version neither the logits nor the candidates count: the student is a raw one from there on."""
    run = StreamRun(tmp_path / "a" / "run", experiment_of(*SCORED), 0)
    run.feed_all([1600])
    run.approve(range(6), "quarantined")
    teacher, raw, distilled = models_of(run.experiment)
    run.run(teacher)
    other = copy_of(run, tmp_path / "b")
    last, _ = run.run(distilled), other.run(raw)
    assert (
        last.state["sums"].get("signals", 0.0) == 0 and last.state["parts"]["joiner"]["missing"]["quarantined"] == ROWS
    )
    one, two = (
        stream.predictions().filter(model=job.name)["logit_click"] for stream, job in ((run, distilled), (other, raw))
    )
    assert (one == two).all()


def test_with_labels_that_come_later_they_are_scored_when_the_sample_arrives(tmp_path: Path) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(*SCORED, "labels.window_s=60"), 1500)
    run.feed_all([1600, 2222])
    run.approve(range(6))
    for job in models_of(run.experiment):
        run.run(job)
    scored = run.predictions().filter(model="teacher")
    assert scored[CANDIDATES].null_count() == 0 and len(scored) == ROWS
    assert stream_checkpoints(run.folder, "light.distilled.s0").latest()[1].state["sums"]["signals"] > 1000


@pytest.mark.long
def test_a_whole_stream_with_all_its_processes(tmp_path: Path) -> None:
    """What the roles make of one table: the gate approves it, compaction merges it, students join it."""
    keys = (
        *SCORED,
        "stream.batch_rows=1500",
        "data.options.rows=6000",
        "candidates.item_features=[topic]",
        "stream.health={shift: 1000, spread: 1000, calibration: 1000, ne: 1000}",
    )
    with Prefork(tmp_path / "run") as processes:
        run_stream(experiment_of(*keys), None, tmp_path / "run", processes)
    rows = PredictionLog.open(tmp_path / "run" / "predictions").scan().collect()
    scored = rows.filter(model="teacher")
    assert len(scored) == 6000 and scored[CANDIDATES].null_count() == 0
    assert (
        stream_checkpoints(RunFolder(tmp_path / "run"), "light.distilled.s0").latest()[1].state["sums"]["signals"]
        > 4000
    )
