"""All that a log may give besides ids, together: lists, values, vectors, weights and tables of items, in every way in
which a model is used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.batch.candidates import Candidates
from recdistill.data.readers.new_rows import source_of
from recdistill.data.store.sample_store import SampleStore
from recdistill.models.factory import BACKBONES
from recdistill.runs.jobs import jobs_of
from recdistill.tables.events import EventLog
from recdistill.train.predict import Predictor
from tests.train.test_vectors import ITEMS, trained, written

ROWS = 1200
SETS = (
    "data.columns={numeric: [age], sequences: {carts: {items: cart, times: at}}, weight: counts}",
    "data.items={path: prices.parquet, key: sku, numeric: [price]}",
)


def write_all(folder: Path) -> pl.DataFrame:
    """Write the log of vectors with the rest, and prices of half of its items; return the log."""
    written(folder)
    draw = np.random.default_rng(2)
    log = pl.read_parquet(folder / "log.parquet").head(ROWS)
    log = log.with_columns(
        age=pl.Series(draw.normal(5, 2, ROWS)),
        cart=pl.Series(draw.integers(0, ITEMS, (ROWS, 3)).tolist()),
        at=pl.concat_list(pl.col("time") - 60, pl.col("time") - 5, pl.col("time")),  # the last is not before its row
        counts=pl.Series(draw.integers(0, 3, ROWS)),
    )
    log.write_parquet(folder / "log.parquet")
    pl.DataFrame({"sku": range(0, ITEMS, 2), "price": [float(k) for k in range(0, ITEMS, 2)]}).write_parquet(
        folder / "prices.parquet"
    )
    return log


@pytest.mark.parametrize("kind", BACKBONES)
def test_new_rows_give_what_the_network_gives_over_its_store(kind: str, tmp_path: Path) -> None:
    log = write_all(tmp_path)
    run, experiment = trained(tmp_path, f"teacher.kind={kind}", "candidates.count=0", *SETS)
    one = Predictor(run, experiment, jobs_of(experiment)[0])
    found = pl.concat(one.predict(source_of(log.drop("label", "counts"))))["logit_click"].to_numpy()
    logits = one.learner.predict(BatchBuilder(SampleStore(run.store), 3, numbers=[]).build(np.arange(ROWS)))
    np.testing.assert_allclose(found, logits[:, 0].numpy(), atol=1e-5)
    lists, *prices = one.notes()
    assert lists == f"'at': {ROWS:,} entries of sequences not before their row left out"
    assert prices and all("prices.parquet" in line for line in prices)


def test_a_candidate_has_what_goes_with_its_item_and_all_else_of_its_row(tmp_path: Path) -> None:
    write_all(tmp_path)
    run, experiment = trained(tmp_path, *SETS)
    store, schema = SampleStore(run.store), EventLog.open(run.tables / "events").schema
    rows = np.arange(500, 560)
    batch = BatchBuilder(store, 3).candidates(rows, Candidates.of(experiment.candidates, schema))
    item, own = batch.item.ids().numpy(), np.repeat(rows, 2)
    assert (item != store.item[own]).any() and list(schema.features) == ["age", "price"]
    of_item = {int(code): at for at, code in enumerate(store.item)}
    shown = np.array([of_item[int(code)] for code in item])
    np.testing.assert_array_equal(batch.values[:, :2].numpy(), store.values[own, :2])  # its age
    np.testing.assert_array_equal(batch.values[:, 2:].numpy(), store.values[shown, 2:])  # the item's price
    np.testing.assert_array_equal(batch.vectors["row"].values.numpy(), store.row_vectors[own])  # the user's mood
    np.testing.assert_array_equal(batch.weight.numpy(), store.weight[own])
    carts = batch.sequences[0]
    assert len(carts.offsets) - 1 == len(rows) and (carts.of.numpy() == np.repeat(np.arange(60), 2)).all()
