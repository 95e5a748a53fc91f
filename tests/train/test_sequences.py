"""A model learns from a sequence that rows bring, and from nothing else: the label says whether an item of the list is
of the item's group.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recdistill.app.run import ingest_stage, open_run
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.readers.new_rows import source_of
from recdistill.evaluate.metrics import auc
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.train.predict import Predictor
from tests.support.runs import finish, trainer
from tests.support.sweeps import swept

ROWS, LEARNED, GROUPS, ITEMS = 6000, 5000, 6, 48
CONFIG = """
name: carts
data:
  path: log.parquet
  columns: {user: null, sequences: {}}
teacher: {width: 8, history: 6, batch: 100, numbers: [], table_rate: 0.05, dense_rate: 0.01}
students: {light: {kind: pooled-mlp}}
evaluate: {seeds: [0], group: user}
"""
KINDS = {
    "pooled-mlp": {},
    "dcn-v2": {},
    "din": {},
    "target-attention": {},
    "hstu": {"layers": 1},
    "transformer": {"layers": 1},
    "longer": {"merge": 2, "queries": 2},
    "token-mixer": {"tokens": 4, "mixer_width": 16, "merge": 2, "queries": 2},
}


def write_log(folder: Path) -> None:
    draw = np.random.default_rng(0)
    item, cart = draw.integers(0, ITEMS, ROWS), draw.integers(0, ITEMS, (ROWS, 2))
    label = (cart % GROUPS == item[:, None] % GROUPS).any(1)
    frame = {"time": 1_700_000_000 + np.arange(ROWS), "item_id": item, "label": label.astype(int), "cart": list(cart)}
    pl.DataFrame(frame).write_parquet(folder / "log.parquet")


def experiment_of(kind: str, *assignments: str) -> Experiment:
    options = ", ".join(f"{name}: {value}" for name, value in KINDS[kind].items())
    return load_text(CONFIG, [f"teacher.kind={kind}", f"teacher.options={{{options}}}", *assignments])


def score(root: Path, log: Path, experiment: Experiment) -> float:
    """Return the AUC on the last rows after three passes over the others."""
    with open_run(experiment, log, root) as folder:
        ingest_stage(folder, experiment, log)
    one = trainer(root, experiment, "teacher")
    for at in [*range(0, LEARNED, 100)] * 3:
        one.learner.learn(one.builder.build(np.arange(at, at + 100)), torch.ones(100, dtype=torch.bool))
    batch = one.builder.build(np.arange(LEARNED, ROWS))
    one.learner.network.eval()
    return float(auc(batch.labels[:, 0].numpy(), one.learner.predict(batch)[:, 0].numpy()))


@pytest.mark.parametrize("name", ["carts", "history"])
@pytest.mark.parametrize("kind", swept([*KINDS], quick=3))
def test_the_list_alone_tells(tmp_path: Path, kind: str, name: str) -> None:
    write_log(tmp_path)
    given = f"data.columns.sequences={{{name}: {{items: cart}}}}"
    found = score(tmp_path / "run", tmp_path, experiment_of(kind, given))
    assert found > 0.75, found


def test_without_the_list_nothing_does(tmp_path: Path) -> None:
    write_log(tmp_path)
    assert score(tmp_path / "run", tmp_path, experiment_of("din")) < 0.6


def test_new_rows_are_predicted_from_the_lists_that_they_bring(tmp_path: Path) -> None:
    write_log(tmp_path)
    log = (
        pl.read_parquet(tmp_path / "log.parquet")
        .head(400)
        .with_columns(at=pl.concat_list(pl.col("time") - 9, pl.col("time") - 5))
    )
    log.write_parquet(tmp_path / "log.parquet")
    lists = "{carts: {items: cart, times: at}, history: {items: cart}}"
    keys = (f"data.columns.sequences={lists}", f"data.path={tmp_path / 'log.parquet'}", "checkpoint_rows=200")
    experiment = experiment_of("din", *keys)
    finish(tmp_path / "run", experiment, "teacher")
    one = Predictor(RunFolder(tmp_path / "run"), experiment, jobs_of(experiment)[0])
    builder = BatchBuilder(one.store, one.job.config.history, numbers=one.job.config.numbers)
    wanted = one.learner.predict(builder.build(np.arange(400)))[:, 0].numpy()
    order = np.random.default_rng(1).permutation(400)
    found = pl.concat(one.predict(source_of(log[order])))["logit_click"].to_numpy()
    np.testing.assert_allclose(found, wanted[order], atol=1e-5)
    other = log.with_columns(at=pl.concat_list(pl.col("time"), pl.col("time") - 5))
    found = pl.concat(one.predict(source_of(other)))["logit_click"].to_numpy()
    assert not np.allclose(found, wanted, atol=1e-3)
    assert one.counts == {"'at': entries of sequences not before their row left out": 400}
