"""Models that follow the tables: batch and stream do what batch alone does, whatever the commits, kills and
revocations.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from recdistill.checkpoint.store import Checkpoints
from recdistill.errors import UserError
from recdistill.stream.workers.build import stream_checkpoints
from tests.support.stream_runs import (
    ROWS,
    StreamRun,
    copy_of,
    ends_as,
    experiment_of,
    models_of,
    same_tensors,
    same_weights,
)
from tests.support.sweeps import swept


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """The same log, all of it learned in batch."""
    return StreamRun(tmp_path_factory.mktemp("whole") / "run", experiment_of(), ROWS)


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """Half the log in batch, the rest in the tables, the teacher's versions approved and nothing streamed yet."""
    run = StreamRun(tmp_path_factory.mktemp("fed") / "run", experiment_of(), 1500)
    run.feed_all([1600, 1601, 2222])
    run.approve(range(3, 6))
    return run


@pytest.mark.parametrize("cuts", [[], [1501, 1502, 2000, 2999], list(range(1540, ROWS, 137))])
def test_batch_and_stream_learn_what_batch_alone_learns(whole: StreamRun, tmp_path: Path, cuts: list[int]) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(), 1500)
    run.feed_all(cuts)
    run.approve(range(3, 6))
    for job in models_of(run.experiment):
        got = run.run(job)
        assert ends_as(whole, job, got)
    assert run.predictions().equals(whole.predictions())


def test_a_stream_from_nothing_learns_what_batch_alone_learns(whole: StreamRun, tmp_path: Path) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(), 0)
    run.feed_all([700, 1900])
    run.approve(range(6))
    for job in models_of(run.experiment):
        assert ends_as(whole, job, run.run(job))
    assert run.predictions().equals(whole.predictions())


@pytest.mark.parametrize(
    "point",
    swept(
        [
            "model.predicted:13",
            "checkpoint.published:2",
            "model.recorded:3",
            "checkpoint.written:2",
            "table.files:4",
            "table.commit:4",
        ],
        quick=2,
    ),
)
def test_a_model_that_is_killed_does_the_same_again(
    whole: StreamRun, fed: StreamRun, tmp_path: Path, point: str
) -> None:
    run = copy_of(fed, tmp_path / "run")
    teacher, _, distilled = models_of(run.experiment)
    for job in (teacher, distilled):
        assert run.process(job, point) == -9
        assert ends_as(whole, job, run.run(job))
    mine = [job.name for job in (teacher, distilled)]
    assert (
        run.predictions()
        .filter(run.predictions()["model"].is_in(mine))
        .equals(whole.predictions().filter(whole.predictions()["model"].is_in(mine)))
    )


def test_lineage_names_every_version_that_was_learned_from(fed: StreamRun, tmp_path: Path) -> None:
    run = copy_of(fed, tmp_path / "run")
    teacher, _, distilled = models_of(run.experiment)
    run.run(teacher)
    state = run.run(distilled).state
    assert state["learned_from"] == {"teacher": {"3": 500, "4": 500, "5": 500}}
    assert state["versions"]["events"] == run.events.version and state["rows"] == 1500
    first = stream_checkpoints(run.folder, distilled.name)
    assert [first.state(block)["learned_from"]["teacher"] for block in first.blocks()][0] == {"3": 500}


def test_a_revoked_version_is_unlearned(fed: StreamRun, tmp_path: Path) -> None:
    never, run = copy_of(fed, tmp_path / "never"), copy_of(fed, tmp_path / "run")
    teacher, _, distilled = models_of(run.experiment)
    never.approve([4], "quarantined")
    for stream in (never, run):
        stream.run(teacher)
    clean = never.run(distilled)
    assert clean.state["learned_from"] == {"teacher": {"3": 500, "5": 500}}
    assert run.run(distilled).state["learned_from"]["teacher"]["4"] == 500
    run.approve([4], "revoked")
    again = run.run(distilled)
    assert same_weights(clean, again)
    assert again.state["learned_from"] == clean.state["learned_from"]
    assert run.predictions().select("model", "sample_id").is_duplicated().sum() == 0
    journal = (run.folder.logs / f"{distilled.name}.jsonl").read_text()
    assert '"rollback"' in journal and "teacher@4" in journal


def test_a_version_revoked_while_it_is_learned_restarts_the_model(fed: StreamRun, tmp_path: Path) -> None:
    never, run = copy_of(fed, tmp_path / "never"), copy_of(fed, tmp_path / "run")
    teacher, _, distilled = models_of(run.experiment)
    never.approve([3], "quarantined")
    for stream in (never, run):
        stream.run(teacher)
    assert run.process(distilled, "checkpoint.published:2") == -9  # it has learned from version 3
    run.approve([3], "revoked")
    one, other = never.run(distilled), run.run(distilled)
    assert same_weights(one, other)


def test_a_live_store_that_was_deleted_is_made_again(whole: StreamRun, fed: StreamRun, tmp_path: Path) -> None:
    run = copy_of(fed, tmp_path / "run")
    teacher = models_of(run.experiment)[0]
    assert run.process(teacher, "checkpoint.published:2") == -9
    shutil.rmtree(run.root / "live")
    want = Checkpoints(whole.folder.model(teacher.name)).latest()
    assert want is not None and same_tensors(want[1], run.run(teacher))


@pytest.mark.parametrize("before", [True, False])
def test_a_compaction_after_the_end_of_the_source_hides_it_from_nobody(
    fed: StreamRun, tmp_path: Path, before: bool
) -> None:
    run = copy_of(fed, tmp_path / "run")
    raw = models_of(run.experiment)[1]
    if not before:
        run.run(raw)
    type(run.events)(run.folder.tables / "events").compact()
    assert run.run(raw).state["rows"] == 1500


def test_the_raw_student_has_no_joiner(fed: StreamRun, tmp_path: Path) -> None:
    run = copy_of(fed, tmp_path / "run")
    state = run.run(models_of(run.experiment)[1]).state
    assert state["learned_from"] == {} and "joiner" not in state["parts"]


def test_checkpoints_of_another_revision_are_refused(
    fed: StreamRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(fed, tmp_path / "run")
    teacher = models_of(run.experiment)[0]
    run.run(teacher)
    monkeypatch.setattr("recdistill.stream.workers.snapshot.REVISION", 6)
    with pytest.raises(UserError, match="checkpoints of revision 5, of which this recdistill reads 6; go on with"):
        run.run(teacher)
