"""A whole log predicted by one checkpoint: the same to the bit however many work, in one commit, and never a signal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.data.batch.builder import BatchBuilder
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.tables.predictions import PredictionLog
from recdistill.testing.killpoints import VARIABLE
from recdistill.train.backfill import Backfill, Span, backfill, predict_span, spans_of
from recdistill.train.predict import Predictor
from recdistill.workers.parts import Workers
from tests.support.commands import typed
from tests.support.paths import ROOT
from tests.support.programs import needs
from tests.support.runs import finish, tiny

KEYS = ("checkpoint_rows=90",)
NAME = "teacher.backfill"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("backfill") / "run"
    finish(root, tiny(*KEYS), "teacher")
    return RunFolder(root)


def recorded(folder: RunFolder) -> pl.DataFrame:
    return pl.concat(PredictionLog.open(folder.predictions).of(NAME))


def copied(run: RunFolder, to: Path) -> RunFolder:
    """Return the run with a table of predictions of its own."""
    to.mkdir()
    for name in ("models", "store", "tables", "run.json"):
        found = run.root / name
        shutil.copytree(found, to / name) if found.is_dir() else shutil.copy2(found, to / name)
    PredictionLog.create(to / "predictions", ("click",))
    return RunFolder(to)


def test_every_number_of_workers_records_the_same_bits_in_one_commit(run: RunFolder, tmp_path: Path) -> None:
    experiment, teacher, found, steps = tiny(*KEYS), jobs_of(tiny(*KEYS))[0], [], []
    for workers in (Workers(1), Workers(2)):
        folder = copied(run, tmp_path / str(workers.count))
        assert backfill(folder, experiment, teacher, workers, steps.append) == 400
        assert PredictionLog.open(folder.predictions).version == 1
        assert backfill(folder, experiment, teacher, workers, steps.append) == 0
        found.append(recorded(folder))
    assert found[0].equals(found[1]) and steps == 2 * [90, 180, 270, 360, 400]
    one = Predictor(run, experiment, teacher)
    builder = BatchBuilder.of(one.store, teacher.config)
    logits = one.learner.predict(builder.build(np.arange(400))).numpy()[:, 0]
    assert found[0]["sample_id"].to_list() == one.store.sample_id.tolist()
    np.testing.assert_allclose(found[0]["logit_click"].to_numpy(), logits, atol=1e-5)
    assert found[0].select(pl.col("kind", "version").n_unique()).row(0) == (1, 1) and found[0]["kind"][0] == "backfill"


@needs("ray")
@pytest.mark.long
def test_ray_records_the_same_bits(run: RunFolder, tmp_path: Path) -> None:
    found = []
    for workers in (Workers(2), Workers(2, "ray")):
        folder = copied(run, tmp_path / workers.engine)
        backfill(folder, tiny(*KEYS), jobs_of(tiny(*KEYS))[0], workers, lambda rows: None)
        found.append(sorted((path.name, path.read_bytes()) for path in folder.predictions.rglob("*.parquet")))
    assert found[0] == found[1] and len(found[0]) == 5


def test_a_commit_names_the_checkpoint_and_what_it_had_learned(run: RunFolder, tmp_path: Path) -> None:
    folder, teacher = copied(run, tmp_path / "run"), jobs_of(tiny(*KEYS))[0]
    backfill(folder, tiny(*KEYS), teacher, Workers(1), lambda rows: None)
    about = PredictionLog.open(folder.predictions).newest_metadata(NAME)
    assert about is not None and about["learned_rows"] == "400" and "keep_rates" in about
    assert about["model_version"] == str(recorded(folder)["version"][0])


def test_a_part_written_again_takes_the_place_of_its_own(run: RunFolder, tmp_path: Path) -> None:
    folder = copied(run, tmp_path / "run")
    block = max(int(path.name) for path in (run.root / "models" / "teacher").iterdir() if path.name.isdigit())
    asked = Backfill(folder.root, tiny(*KEYS).model_dump_json(), "teacher", block)
    first, again = (predict_span(asked, Span(0, 0, 90)) for _ in range(2))
    assert [file.path for file in first] == [file.path for file in again]
    assert len(list(folder.predictions.rglob("*.parquet"))) == 1


def test_the_plan_covers_every_row_once() -> None:
    assert [(span.low, span.high) for span in spans_of(250, 100)] == [(0, 100), (100, 200), (200, 250)]
    assert spans_of(0, 100) == []


def test_a_model_that_is_not_trained_is_refused(run: RunFolder) -> None:
    with pytest.raises(UserError, match="light.raw.s0: not trained yet"):
        backfill(run, tiny(*KEYS), jobs_of(tiny(*KEYS))[1][0], Workers(1), lambda rows: None)


def test_the_command_predicts_the_log_or_a_file(run: RunFolder, tmp_path: Path) -> None:
    code, text = typed("predict", run.root, "teacher", "--workers", 2)
    assert code == 0 and "teacher.backfill: 400 predictions in" in text
    code, text = typed("predict", run.root, "teacher")
    assert code == 0 and "nothing to do, already recorded" in text
    code, text = typed("predict", run.root, "teacher", "--data", tmp_path / "new.parquet")
    assert code == 2 and "--data and --out go together" in text


@pytest.mark.long
@pytest.mark.parametrize("point", ["table.files", "table.commit"])
def test_a_driver_that_is_killed_before_or_after_its_commit_does_not_record_twice(
    run: RunFolder, tmp_path: Path, point: str
) -> None:
    folder = copied(run, tmp_path / "run")
    command = [sys.executable, "-m", "recdistill", "predict", str(folder.root), "teacher", "--workers", "2"]
    killed = subprocess.run(command, env={**os.environ, VARIABLE: point}, capture_output=True, cwd=ROOT)
    assert killed.returncode == -9
    assert PredictionLog.open(folder.predictions).version == (1 if point == "table.commit" else 0)
    code, text = typed("predict", folder.root, "teacher", "--workers", 2)
    assert code == 0, text
    assert recorded(folder)["sample_id"].n_unique() == len(recorded(folder)) == 400
    assert len(list(folder.predictions.rglob("*.parquet"))) == 5
