"""Predictions of new rows are those of the network over the run's own histories, whatever their order."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.readers.new_rows import source_of
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.tables.events import EventLog
from recdistill.train.predict import Predictor
from tests.support.runs import finish, tiny

KEYS = ("teacher.sampling={negative: 0.5}",)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("predict") / "run"
    finish(root, tiny(*KEYS), "teacher")
    return RunFolder(root)


def predictor(run: RunFolder) -> Predictor:
    return Predictor(run, tiny(*KEYS), jobs_of(tiny(*KEYS))[0])


def rows(run: RunFolder) -> pl.DataFrame:
    """Return the log with the features under their own names, as new rows come."""
    events = pl.concat(EventLog.open(run.tables / "events").batches())
    return events.rename(lambda column: column.removeprefix("feature_"))


def test_rows_of_the_log_give_what_the_network_gives_over_its_store(run: RunFolder) -> None:
    """In any order: each row is put back where it stood, with the history that was known before its time."""
    one, log = predictor(run), rows(run)
    shuffled = log.sample(len(log), shuffle=True, seed=3)
    found = pl.concat(one.predict(source_of(shuffled)))
    assert found["sample_id"].equals(shuffled["sample_id"])
    builder = BatchBuilder(one.store, one.job.config.history)
    logits = one.learner.predict(builder.build(np.arange(len(log)))).numpy()
    by_id = found.sort("sample_id")["logit_click"].to_numpy()
    np.testing.assert_allclose(by_id, logits[np.argsort(log["sample_id"].to_numpy()), 0], atol=1e-5)


def test_the_probability_is_that_of_the_log_before_down_sampling(run: RunFolder) -> None:
    """Negatives kept at 1/2: the odds of the logit are twice those of the log."""
    found = pl.concat(predictor(run).predict(source_of(rows(run))))
    odds = np.exp(found["logit_click"].to_numpy()) / 2
    np.testing.assert_allclose(found["probability_click"].to_numpy(), odds / (1 + odds), rtol=1e-5)


def test_users_and_items_that_were_never_seen_have_a_prediction(run: RunFolder) -> None:
    log = rows(run).head(4).with_columns(user_id=pl.lit(10**9), item_id=pl.lit(10**9))
    found = pl.concat(predictor(run).predict(source_of(log)))
    assert found["logit_click"].is_finite().all() and len(found) == 4


def test_a_model_that_is_not_trained_is_refused(run: RunFolder) -> None:
    job = jobs_of(tiny(*KEYS))[1][0]
    with pytest.raises(UserError, match="light.raw.s0: not trained yet"):
        Predictor(run, tiny(*KEYS), job)


def test_a_feature_of_another_type_is_refused_and_not_read_as_missing(run: RunFolder) -> None:
    name = next(name for name, kind in predictor(run).schema.features.items() if kind == "int64")
    log = rows(run).head(4).with_columns(pl.lit("red").alias(name))
    with pytest.raises(UserError, match=f"row 0, column '{name}': not a whole number; where they are text"):
        list(predictor(run).predict(source_of(log)))
