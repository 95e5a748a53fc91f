"""Candidates in a stream: what is said of them, and learned from it, is what batch alone does, whatever
commits and kills.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recdistill.learn.checkpoint import Checkpoints
from recdistill.learn.folder import RunFolder
from recdistill.learn.signals import CANDIDATES
from recdistill.stream.prefork import Prefork
from recdistill.stream.setup import stream_checkpoints
from recdistill.streaming import run_stream
from recdistill.tables import PredictionLog
from tests.stream.runs import ROWS, StreamRun, experiment_of, models_of, same_tensors
from tests.stream.test_model import copy_of

ASKED = ("candidates.count=3", "candidates.window=700", "students.light.distill.candidates=2")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """The same log, all of it learned in batch."""
    return StreamRun(tmp_path_factory.mktemp("whole") / "run", experiment_of(*ASKED), ROWS)


@pytest.mark.parametrize("batch", [1500, 0])
def test_batch_and_stream_do_what_batch_alone_does(whole: StreamRun, tmp_path: Path, batch: int) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(*ASKED), batch)
    run.feed_all([1600, 1601, 2222])
    run.clear(range(6))
    for job in models_of(run.experiment):
        want = Checkpoints(whole.folder.model(job.name)).latest()
        assert want is not None and same_tensors(want[1], run.run(job))
    said = run.said()
    assert said.equals(whole.said())
    spoken = said.filter(model="teacher")[CANDIDATES]
    assert (spoken.bin.size() == 2 * 3 * 2).all() and said.filter(model="light.raw.s0")[CANDIDATES].null_count() == ROWS


def test_the_candidates_were_learned_from(whole: StreamRun, tmp_path: Path) -> None:
    plain = StreamRun(tmp_path / "run", experiment_of(*ASKED[:2]), ROWS)
    one, other = (Checkpoints(each.folder.model("light.distilled.s0")).latest()[1] for each in (whole, plain))
    assert not same_tensors(one, other)


@pytest.mark.parametrize("point", ["model.predicted:13", "checkpoint.published:2", "table.commit:4"])
def test_who_is_killed_does_the_same_again(whole: StreamRun, tmp_path: Path, point: str) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(*ASKED), 1500)
    run.feed_all([1600, 1601, 2222])
    run.clear(range(6))
    for job in models_of(run.experiment):
        assert run.process(job, point) == -9
        assert same_tensors(Checkpoints(whole.folder.model(job.name)).latest()[1], run.run(job))
    assert run.said().equals(whole.said())


def test_nothing_is_heard_of_a_version_that_is_bad(tmp_path: Path) -> None:
    """Of a quarantined version neither the logits nor the candidates count: the student is a raw one from there on."""
    run = StreamRun(tmp_path / "a" / "run", experiment_of(*ASKED), 0)
    run.feed_all([1600])
    run.clear(range(6), "quarantined")
    teacher, raw, distilled = models_of(run.experiment)
    run.run(teacher)
    other = copy_of(run, tmp_path / "b")
    heard, _ = run.run(distilled), other.run(raw)
    assert (
        heard.state["sums"].get("signals", 0.0) == 0
        and heard.state["parts"]["joiner"]["missing"]["quarantined"] == ROWS
    )
    one, two = (each.said().filter(model=job.name)["logit_click"] for each, job in ((run, distilled), (other, raw)))
    assert (one == two).all()


def test_with_labels_that_come_later_it_is_asked_when_the_sample_arrives(tmp_path: Path) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(*ASKED, "stream.labels.window_s=60"), 1500)
    run.feed_all([1600, 2222])
    run.clear(range(6))
    for job in models_of(run.experiment):
        run.run(job)
    said = run.said().filter(model="teacher")
    assert said[CANDIDATES].null_count() == 0 and len(said) == ROWS
    assert stream_checkpoints(run.folder, "light.distilled.s0").latest()[1].state["sums"]["signals"] > 1000


def test_a_whole_stream_with_all_its_processes(tmp_path: Path) -> None:
    """What the roles make of one table: the gate opens it, compaction merges it, students join it."""
    keys = (
        *ASKED,
        "stream.batch_rows=1500",
        "data.options.rows=6000",
        "candidates.item_features=[topic]",
        "stream.health={shift: 1000, spread: 1000, calibration: 1000, ne: 1000}",
    )
    with Prefork(tmp_path / "run") as processes:
        run_stream(experiment_of(*keys), None, tmp_path / "run", processes)
    rows = PredictionLog.open(tmp_path / "run" / "predictions").scan().collect()
    said = rows.filter(model="teacher")
    assert len(said) == 6000 and said[CANDIDATES].null_count() == 0
    assert (
        stream_checkpoints(RunFolder(tmp_path / "run"), "light.distilled.s0").latest()[1].state["sums"]["signals"]
        > 4000
    )
