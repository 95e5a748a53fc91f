"""Pre-trained vectors in training: what they bring is there for items that no model has met, however it predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recdistill.app.run import ingest_stage, open_run
from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.batch.candidates import Candidates
from recdistill.data.readers.new_rows import source_of
from recdistill.data.store.sample_store import SampleStore
from recdistill.models.factory import BACKBONES
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.train.build import trainer_of
from recdistill.train.predict import Predictor
from tests.support.commands import typed
from tests.support.sweeps import swept
from tests.support.written import START

CONFIG = """
name: seen
data:
  path: log.parquet
  vectors:
    image: {path: items.parquet, key: sku}
    taste: {path: users.parquet, key: who, of: user}
    mood: {column: mood, of: user}
teacher: {kind: din, width: 8, history: 3, batch: 100, numbers: []}
students: {light: {kind: pooled-mlp, width: 4, history: 3, batch: 100}}
candidates: {count: 2, window: 100}
evaluate: {seeds: [0], bootstrap: 20}
checkpoint_rows: 1000
processes: 1
"""
ITEMS, ROWS = 600, 4000


def written(folder: Path) -> None:
    """Write a log whose label is decided by the item's vector, and the vectors of more items than it has."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(0, 0.02, (2 * ITEMS, 6))
    item = draw.integers(0, ITEMS, ROWS)
    label = draw.random(ROWS) < 1 / (1 + np.exp(-vectors[item] @ np.array([150.0, -100, 0, 0, 0, 0])))
    user = draw.integers(0, 50, ROWS)
    log = pl.DataFrame(
        {
            "time": START + np.arange(ROWS) * 5,
            "user_id": user,
            "item_id": item,
            "label": label.astype(int),
            "mood": draw.normal(0, 1, (ROWS, 2)).tolist(),
        }
    )
    log.with_columns(mood=pl.when(pl.col("user_id") % 5 > 0).then("mood")).write_parquet(folder / "log.parquet")
    pl.DataFrame({"sku": np.arange(2 * ITEMS)[::-1].copy(), "embedding": vectors[::-1].tolist()}).write_parquet(
        folder / "items.parquet"
    )
    users = pl.DataFrame({"who": np.arange(40), "embedding": draw.normal(0, 1, (40, 2)).tolist()})
    users.write_parquet(folder / "users.parquet")


def cold_rows(folder: Path, items: range) -> tuple[pl.DataFrame, np.ndarray]:
    """Return new rows of each of the items, and what decides their labels."""
    vectors = pl.read_parquet(folder / "items.parquet").sort("sku")["embedding"].to_numpy()
    time = START + ROWS * 5
    count = len(items)
    rows = pl.DataFrame({"time": [time] * count, "user_id": [1] * count, "item_id": list(items)})
    rows = rows.with_columns(mood=pl.lit(None, pl.List(pl.Float64)))
    return rows, np.stack(vectors)[list(items)] @ np.array([150.0, -100, 0, 0, 0, 0])


def trained(folder: Path, *sets: str) -> tuple[RunFolder, Experiment]:
    """Return the run whose teacher is trained, in this process."""
    experiment, root = load_text(CONFIG, list(sets)), folder / "run"
    if not root.exists():
        with open_run(experiment, folder, root) as run:
            ingest_stage(run, experiment, folder)
    run = RunFolder(root)
    for _ in trainer_of(run, experiment, jobs_of(experiment)[0]).run_to_end():
        pass
    return run, experiment


@pytest.mark.parametrize("kind", swept([*BACKBONES], quick=3))
def test_items_that_were_never_met_are_ranked_by_their_vectors(kind: str, tmp_path: Path) -> None:
    written(tmp_path)
    run, experiment = trained(tmp_path, f"teacher.kind={kind}", "candidates.count=0")
    rows, decides = cold_rows(tmp_path, range(ITEMS, 2 * ITEMS))
    found = pl.concat(Predictor(run, experiment, jobs_of(experiment)[0]).predict(source_of(rows)))
    assert roc_auc_score(decides > 0, found["logit_click"].to_numpy()) > 0.8
    none = rows.with_columns(item_id=pl.col("item_id") + 10**6)  # of no table
    alike = pl.concat(Predictor(run, experiment, jobs_of(experiment)[0]).predict(source_of(none)))["logit_click"]
    assert np.ptp(alike.to_numpy()) < 1e-5


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    written(folder)
    trained(folder)
    return folder


def test_new_rows_give_what_the_network_gives_over_its_store(one: Path) -> None:
    run, experiment = trained(one)
    predictor = Predictor(run, experiment, jobs_of(experiment)[0])
    log = pl.read_parquet(one / "log.parquet").drop("label")
    found = pl.concat(predictor.predict(source_of(log)))["logit_click"].to_numpy()
    logits = predictor.learner.predict(BatchBuilder(SampleStore(run.store), 3, numbers=[]).build(np.arange(ROWS)))
    np.testing.assert_allclose(found, logits[:, 0].numpy(), atol=1e-5)


def test_a_run_that_is_resumed_ends_with_the_same_weights(one: Path, tmp_path: Path) -> None:
    written(tmp_path)
    experiment, root = load_text(CONFIG), tmp_path / "run"
    with open_run(experiment, tmp_path, root) as run:
        ingest_stage(run, experiment, tmp_path)
    steps = trainer_of(run, experiment, jobs_of(experiment)[0]).run_to_end()
    next(steps)
    steps.close()
    again, _ = trained(tmp_path)
    ends = [Checkpoints(folder.model("teacher")).latest() for folder in (again, trained(one)[0])]
    assert ends[0][0] == ends[1][0]  # type: ignore[index]
    for name, value in ends[0][1].tensors.items():  # type: ignore[index]
        assert torch.equal(value, ends[1][1].tensors[name]), name  # type: ignore[index]


def test_a_candidate_has_the_vector_of_its_own_item(one: Path) -> None:
    run, experiment = trained(one)
    store, schema = SampleStore(run.store), Predictor(run, experiment, jobs_of(experiment)[0]).schema
    rows = np.arange(500, 600)
    batch = BatchBuilder(store, 3).candidates(rows, Candidates.of(experiment.candidates, schema))
    item = store.vectors["item"].values[store.vector_index["item"][batch.item.ids().numpy()]]
    user = np.repeat(store.vectors["user"].values[store.vector_index["user"][store.user[rows]]], 2, axis=0)
    for side, want in (("item", item), ("user", user)):
        np.testing.assert_array_equal(batch.vectors[side].values.numpy()[batch.vectors[side].inverse.numpy()], want)


def test_a_whole_run_with_folds_says_what_has_no_vector_and_notices_a_changed_table(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "x.yaml").write_text(CONFIG)
    words = ("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "run")
    sets = ("--set", "crossfit.folds=2", "--set", "data.limit=1500")
    code, printed = typed(*words, *sets)
    assert code == 0, printed
    assert "vectors.taste: 10 of 50 users have no vector" in printed and "vectors.image" not in printed
    users = pl.read_parquet(tmp_path / "users.parquet")
    users.head(30).write_parquet(tmp_path / "users.parquet")
    code, printed = typed(*words, *sets)
    assert code == 2 and "users.parquet" in printed


def test_a_table_that_is_wrong_leaves_nothing_behind(tmp_path: Path) -> None:
    written(tmp_path)
    pl.DataFrame({"sku": [1, 2], "embedding": [[1.0], [1.0, 2.0]]}).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "x.yaml").write_text(CONFIG)
    code, printed = typed("ingest", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 2 and "row 1, column 'embedding': a vector of 2 entries" in printed
    assert not (tmp_path / "run" / "tables").exists() and not (tmp_path / "run" / "tables.part").exists()
