"""A stream whose models keep to a budget of rows: it learns what batch alone learns, killed or not, and tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.api.run import Run
from recdistill.app.bounded_rows import bounded_lines
from recdistill.data.store.memmap import write_json
from recdistill.serve.artefact import open_artefact
from recdistill.serve.rows import KeptRows, MixedRows, SharedRows, SmallerRows
from recdistill.stream.workers.build import stream_checkpoints
from tests.support.stream_runs import ROWS, StreamRun, ends_as, experiment_of, models_of

BOUNDED = ("students.light.rows={most: 32, admit: 2}", "teacher.rows={most: 12, share: quotient-remainder}")
SMALLER = (None, SmallerRows("int8", drop=0.1, max_loss=1.0))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """Half the log in batch, the rest streamed; the distilled student was killed on its way."""
    run = StreamRun(tmp_path_factory.mktemp("streamed") / "run", experiment_of(*BOUNDED), 1500)
    write_json(run.root / "run.json", {"experiment": run.experiment.model_dump(mode="json"), "data": ""})
    run.feed_all([1600, 2222])
    run.approve(range(3, 6))
    teacher, _, distilled = models_of(run.experiment)
    run.run(teacher)
    assert run.process(distilled, "checkpoint.published:2") == -9
    run.run(distilled)
    return run


def test_batch_and_stream_give_rows_to_the_same_ids(streamed: StreamRun, tmp_path: Path) -> None:
    whole = StreamRun(tmp_path / "whole", experiment_of(*BOUNDED), ROWS)
    for job in models_of(whole.experiment)[::2]:
        latest = stream_checkpoints(streamed.folder, job.name).latest()
        assert latest is not None and ends_as(whole, job, latest[1])


def test_what_became_of_the_rows_is_told(streamed: StreamRun) -> None:
    name = models_of(streamed.experiment)[2].name
    lines = [line for line in bounded_lines(streamed.folder) if line.startswith(f"{name}: ")]
    assert len(lines) == 1 and "ids have a row; rows were given" in lines[0]
    counted = stream_checkpoints(streamed.folder, name).latest()
    assert counted is not None
    tables = counted[1].state["learner"]["bounded"].values()
    assert all(table["held"] <= 32 for table in tables) and sum(table["evicted"] for table in tables) > 0


@pytest.mark.parametrize("smaller", SMALLER)
def test_an_artefact_has_the_rows_that_there_are(
    streamed: StreamRun, tmp_path: Path, smaller: SmallerRows | None
) -> None:
    """Export compares what the artefact gives, also for ids without a row, with the network's logits."""
    Run(streamed.root).model("light").export(tmp_path, smaller=smaller)
    tables = open_artefact(tmp_path).tables.values()
    kept = [table for table in tables if isinstance(table, KeptRows)]
    assert kept and all(len(table.rows) <= 33 for table in kept)
    assert any(int(np.bitwise_count(table.kept).sum()) < len(table) for table in kept)


@pytest.mark.parametrize("smaller", SMALLER)
def test_an_artefact_has_the_rows_of_quotients(
    streamed: StreamRun, tmp_path: Path, smaller: SmallerRows | None
) -> None:
    Run(streamed.root).model("teacher").export(tmp_path, smaller=smaller)
    tables = open_artefact(tmp_path).tables.values()
    assert all(isinstance(table, SharedRows) and table.most == 11 and table.quotients == [1] for table in tables)


@pytest.mark.long
def test_rows_that_ids_share_and_narrow_ones_are_streamed_and_served(tmp_path: Path) -> None:
    keys = "teacher.rows={most: 12, share: remainder}", "students.light.rows={most: 8, admit: 2, narrow: 2}"
    whole = StreamRun(tmp_path / "whole", experiment_of(*keys), ROWS)
    run = StreamRun(tmp_path / "run", whole.experiment, 1500)
    write_json(run.root / "run.json", {"experiment": run.experiment.model_dump(mode="json"), "data": ""})
    run.feed_all([1600, 2222])
    run.approve(range(3, 6))
    found = []
    for job in models_of(run.experiment)[:2]:
        assert ends_as(whole, job, run.run(job))
        for at, smaller in enumerate(SMALLER):
            Run(run.root).model(job.name).export(tmp_path / f"{job.name}-{at}", smaller=smaller)
            found.append([*open_artefact(tmp_path / f"{job.name}-{at}").tables.values()])
    assert all(isinstance(table, SharedRows) and table.most == 12 for table in (*found[0], *found[1]))
    rests = [table.parts[1] for table in (*found[2], *found[3]) if isinstance(table, MixedRows)]
    assert rests and all(isinstance(rest, KeptRows) and len(rest.rows) <= 9 for rest in rests)
