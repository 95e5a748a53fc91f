"""Sequences, values, vectors and weights of rows in a stream: models end with the bits that batch alone gives them,
also after a kill.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.data.readers.base import Log
from recdistill.data.readers.factory import open_log
from tests.support import stream_runs
from tests.support.stream_runs import ROWS, StreamRun, ends_as, experiment_of, models_of, same_tensors

KEYS = (
    "teacher.kind=target-attention",
    "students.light.kind=din",
    "candidates.count=2",
    "candidates.window=700",
    "candidates.item_features=[age_days]",
    "students.light.distill.candidates=1",
)


def log_of(experiment: Experiment) -> tuple[Log, pl.DataFrame]:
    """Return the simulated log with a numeric feature, carts: the items of the last rows of an earlier time, a vector
    that goes with the item, one that does not, and a weight.
    """
    log = open_log(experiment.data, None)
    schema = replace(
        log.schema,
        features={"age_days": "float32"},
        scales={"age_days": (0.0, 3.0, 2.0)},
        sequences={"carts": True},
        row_vectors={"look": ("item", 2, 0.5), "mood": ("user", 1, 1.0)},
        has_weight=True,
    )
    rows = pl.concat(list(log.batches()))
    time, item = rows["time"].to_list(), rows["item_id"].to_list()
    earlier = [[at for at in range(max(0, k - k % 6), k) if time[at] < time[k]] for k in range(len(rows))]
    rows = rows.with_columns(
        sequence_carts=pl.Series([[item[at] for at in places] for places in earlier], dtype=pl.List(pl.Int64)),
        times_carts=pl.Series([[time[at] for at in places] for places in earlier], dtype=pl.List(rows["time"].dtype)),
    )
    rows = rows.with_columns(
        vector_look=pl.concat_list([(pl.col("item_id") % k).cast(pl.Float32) for k in (3, 5)]),
        vector_mood=pl.when(pl.col("sample_id") % 4 > 0).then(pl.concat_list(pl.col("sample_id").cast(pl.Float32) % 7)),
        weight=(pl.col("sample_id") % 3).cast(pl.Float32),
    )
    return replace(log, schema=schema), rows.select(list(schema.columns()))


@pytest.fixture(autouse=True, scope="module")
def given_log() -> None:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_runs, "log_of", log_of)
        yield


@pytest.fixture(scope="module")
def whole(given_log: None, tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """The same log, all of it learned in batch."""
    return StreamRun(tmp_path_factory.mktemp("whole") / "run", experiment_of(*KEYS), ROWS)


def test_the_log_has_them(whole: StreamRun) -> None:
    assert whole.rows["sequence_carts"].list.len().max() > 3 and whole.rows["feature_age_days"].n_unique() > 100


@pytest.mark.parametrize("batch", [1500, 0])
def test_batch_and_stream_do_what_batch_alone_does(whole: StreamRun, tmp_path: Path, batch: int) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(*KEYS), batch)
    run.feed_all([1600, 1601, 2222])
    run.approve(range(6))
    for job in models_of(run.experiment):
        assert ends_as(whole, job, run.run(job))
    assert run.predictions().equals(whole.predictions())


def test_who_is_restarted_goes_on_as_if_nothing_had_been(whole: StreamRun, tmp_path: Path) -> None:
    run = StreamRun(tmp_path / "run", experiment_of(*KEYS), 1500)
    teacher = models_of(run.experiment)[0]
    run.feed(1700)
    run.feed(2400, end=True)
    run.run(teacher)
    run.feed(ROWS, end=True)
    want = Checkpoints(whole.folder.model(teacher.name)).latest()
    assert want is not None and same_tensors(want[1], run.run(teacher))
