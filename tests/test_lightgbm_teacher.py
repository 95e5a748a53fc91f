"""The worked example of a teacher of one's own: it says nothing that its labels told it, and a run takes it
from tests.support.paths import ROOT
from its file to the scores.
"""

import importlib.util
import sys

import numpy as np
import polars as pl
import pytest

from recdistill.app.run import ingest_stage, open_run, run_pipeline
from recdistill.config.load import load_text
from recdistill.evaluate.summary import load
from recdistill.runs.folder import RunFolder
from recdistill.signals.import_file import import_predictions
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "lightgbm_teacher.py"
CONFIG = """
name: trees
data: {reader: simulator, options: {rows: 8000, users: 100, items: 50, topics: 10, topics_liked: 3}}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 100}}
evaluate: {start: 0.5, seeds: [0, 1], bootstrap: 20}
"""


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("lightgbm_teacher", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.SETTINGS["num_threads"] = 1  # other tests run beside this one
    return module


def rows(seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "sample_id": np.arange(2000),
            "user_id": draw.integers(0, 50, 2000),
            "item_id": draw.integers(0, 20, 2000),
            "position": draw.integers(0, 4, 2000),
            "time": np.arange(2000),
            "known": np.arange(2000),
            "label": draw.integers(0, 2, 2000).astype(float),
        }
    )


def test_a_block_is_said_before_its_labels_are_known(example):
    plain = rows()
    changed = plain.with_columns(
        label=pl.when(pl.col("sample_id") >= 1000).then(1 - pl.col("label")).otherwise("label")
    )
    one, other = (example.predictions(each, ["position"], blocks=4) for each in (plain, changed))
    same = one["logit"] == other["logit"]
    assert one["sample_id"].to_list() == list(range(500, 2000))
    assert same.head(1000).all() and not same.tail(500).all()


def test_from_an_ingested_run_to_its_scores(example, tmp_path):
    experiment, out = load_text(CONFIG), tmp_path / "run"
    with open_run(experiment, None, out) as folder:
        ingest_stage(folder, experiment, None)
    example.main(out, tmp_path / "said.parquet", 4)
    found = import_predictions(RunFolder(out), experiment, tmp_path / "said.parquet")
    assert (found.rows, found.unknown) == (6_000, 0)
    run_pipeline(experiment, None, out)
    summary = load(out / "summary.json")
    assert summary.models.teacher.auc > 0.6 and summary.models.teacher.settings == {"imported": "said.parquet"}
    assert summary.students["light"].coverage == pytest.approx(0.75, abs=0.01)  # of the samples learned
