"""A student of a domain learns from its own samples alone and is scored on them; one teacher serves all domains."""

import numpy as np
import pytest

from recdistill.app.run import run_pipeline, train_stage
from recdistill.config.load import load_text
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.evaluate import metrics
from recdistill.evaluate.summary import load
from recdistill.report.page import render
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from recdistill.train.schedule import Step
from tests.support.runs import ingested, tiny

CONFIG = """
name: domains
data: {reader: simulator, options: {rows: 4000, users: 60, items: 40}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50}
students:
  all: &one {kind: pooled-mlp, width: 4, history: 5, batch: 50}
  phone: {<<: *one, domain: {device: 2}}
evaluate: {seeds: [0, 1], bootstrap: 20}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("domains") / "run"
    run_pipeline(load_text(CONFIG), None, root)
    return RunFolder(root)


def device(run: RunFolder) -> np.ndarray:
    rows = (
        EventLog.open(run.tables / "events").scan(columns=["sample_id", "feature_device"]).collect().sort("sample_id")
    )
    return rows["feature_device"].to_numpy()


def test_it_learns_from_its_samples_alone(run):
    job = next(job for job in jobs_of(run.experiment())[1] if job.name == "phone.raw.s0")
    made, store = build.trainer_of(run, run.experiment(), job), SampleStore(run.store)
    np.testing.assert_array_equal(made.only, device(run)[store.sample_id] == 2)
    rows = np.flatnonzero(~made.only)[:50]
    before = {name: value.clone() for name, value in made.learner.state()[0].items()}
    prepared = made._prepare(Step(rows, record=False))
    assert not prepared.keep.any()
    made.learner.learn(prepared.batch, prepared.keep)
    after = made.learner.state()[0]
    assert all((before[name] == after[name]).all() for name in before if name.startswith("network/"))


def test_it_is_scored_on_its_samples_against_the_teacher_there(run):
    summary, store = load(run.root / "summary.json"), SampleStore(run.store)
    student, everyone = summary.students["phone"], summary.students["all"]
    mine = (device(run)[store.sample_id] == 2) & (np.arange(len(store)) >= 2000)
    assert (student.domain, student.rows) == ({"device": 2}, int(mine.sum())) and everyone.teacher is None
    said = np.zeros(len(store), np.float32)
    for rows in PredictionLog.open(run.predictions).of("teacher"):
        said[store.positions(rows["sample_id"].to_numpy())] = rows["logit_click"].to_numpy()
    wanted = metrics.auc(store.labels[mine, 0].astype(float), said[mine])
    assert student.teacher.auc == pytest.approx(wanted) and student.teacher.auc != summary.models.teacher.auc
    assert f"{student.rows:,}".replace(",", "\u202f") + " impressions with device 2" in render(summary)


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ("{devise: 2}", "domain: no feature 'devise'; did you mean 'device'"),
        ("{device: 9}", "domain: no sample has device 9"),
        ("{age_days: 1}", "'age_days' is of type float32"),
    ],
)
def test_a_domain_that_there_is_not_is_refused(tmp_path, domain, said):
    config = tiny(f"students.light.domain={domain}")
    folder = ingested(tmp_path, config)
    with pytest.raises(UserError, match=said):
        train_stage(folder, config)
    assert not (tmp_path / "models").exists()
