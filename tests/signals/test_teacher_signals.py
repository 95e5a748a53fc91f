"""Whom a student hears: several teachers as one, another student, a share, from some point on; and how that
is resumed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.app.run import open_run, run_pipeline, train_stage
from recdistill.checkpoint.store import Checkpoints
from recdistill.config.load import load_text
from recdistill.config.models import DistillConfig
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of, teacher_names, teachers_of
from recdistill.signals.teacher_signals import _part
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from tests.support.runs import TINY, ingested, same_bits, tiny, trainer

MANY = """
name: many
data: {reader: simulator, options: {rows: 600, users: 30, items: 40, days: 0.5}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50, sampling: {negative: 0.5}}
teachers:
  wide: {kind: pooled-mlp, width: 8, history: 5, batch: 50}
  old: {kind: pooled-mlp, width: 4, history: 5, batch: 50, stale: {hours: 2}}
students:
  plain: &one {kind: pooled-mlp, width: 4, history: 5, batch: 50}
  both: {<<: *one, distill: {teachers: [teacher, wide]}}
  recent: {<<: *one, distill: {teachers: [teacher, wide], ensemble: recent, gate: {by: device, window: 100}}}
  stale: {<<: *one, distill: {teachers: [old]}}
  chained: {<<: *one, width: 2, distill: {teachers: [both]}}
  some: {<<: *one, distill: {start: 0.5, share: 0.5}}
  exfm: {<<: *one, distill: {towers: signal-only, label_scale: 2.0, gradient_scale: 3.0,
    adapter: {hidden: [4]}, weight: {click: 2.0}}}
evaluate: {seeds: [0, 1], bootstrap: 20}
checkpoint_rows: 200
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("many") / "run"
    run_pipeline(load_text(MANY), None, root)
    return RunFolder(root)


def column(run: RunFolder, name: str) -> np.ndarray:
    experiment = run.experiment()
    job = next(job for job in jobs_of(experiment)[1] if job.name == name)
    return np.array(build.trainer_of(run, experiment, job).builder.signals)


def said(run: RunFolder, model: str) -> np.ndarray:
    store, found = SampleStore(run.store), np.full((600, 2), np.nan, np.float32)
    for rows in PredictionLog.open(run.predictions).of(model):
        found[store.positions(rows["sample_id"].to_numpy())] = rows.select("logit_click", "logit_finish").to_numpy()
    return found


def test_an_ensemble_is_the_mean_of_log_odds_before_each_ones_own_sampling(run):
    trained = build.trainer_of(
        run, run.experiment(), next(j for j in jobs_of(run.experiment())[1] if j.name == "both.distilled.s0")
    )
    first = build.trainer_of(
        run, run.experiment(), next(j for j in jobs_of(run.experiment())[1] if j.name == "plain.distilled.s0")
    )
    shifts = np.array([rates.log_odds_offset for rates in first.learner.teacher], np.float32)
    assert shifts[0] == pytest.approx(np.log(2)) and all(
        rates.log_odds_offset == 0 for rates in trained.learner.teacher
    )
    np.testing.assert_allclose(
        trained.builder.signals, ((said(run, "teacher") - shifts) + said(run, "teacher-wide")) / 2, atol=1e-6
    )


def test_recent_weights_lie_between_the_teachers(run):
    trained = column(run, "recent.distilled.s0")
    first = build.trainer_of(
        run, run.experiment(), next(j for j in jobs_of(run.experiment())[1] if j.name == "plain.distilled.s0")
    )
    one, other = (
        said(run, "teacher") - np.array([r.log_odds_offset for r in first.learner.teacher], np.float32),
        said(run, "teacher-wide"),
    )
    assert (trained >= np.minimum(one, other) - 1e-5).all() and (trained <= np.maximum(one, other) + 1e-5).all()


def test_shares_of_teachers_combined_over_different_windows_are_kept_apart(run):
    store, predictions = SampleStore(run.store), PredictionLog.open(run.predictions)

    def part(window, value):
        keys = {"ensemble": "recent", "share": 0.5, "gate": {"window": window}}
        whole = np.full((600, 2), value, np.float32)
        names = ["teacher", "teacher-wide"]
        return _part(run, names, DistillConfig.model_validate(keys), store, predictions, whole)

    assert [np.nanmax(part(20, 1.0)), np.nanmax(part(200, 2.0))] == [1, 2]


def test_a_chain_hears_the_other_students_model_of_its_own_seed(run):
    np.testing.assert_array_equal(column(run, "chained.distilled.s1"), said(run, "both.distilled.s1"))
    job = next(job for job in jobs_of(run.experiment())[1] if job.name == "chained.distilled.s1")
    assert teacher_names(run.experiment(), job) == ["both.distilled.s1"]


def test_a_share_from_some_point_on(run):
    whole, part = said(run, "teacher"), column(run, "some.distilled.s0")
    heard = ~np.isnan(part[:, 0])
    assert not heard[:300].any() and 110 < heard[300:].sum() < 190
    np.testing.assert_array_equal(part[heard], whole[heard])


def test_a_stale_teacher_says_everything_and_knows_less(run):
    old = next(job for job in teachers_of(run.experiment()) if job.name == "teacher-old")
    steps = Checkpoints(run.model(old.name)).latest()[1].state["learner"]["steps"]
    assert not np.isnan(said(run, "teacher-old")).any() and 0 < steps < 12


def test_whoever_is_heard_is_trained_first(tmp_path):
    experiment = load_text(MANY)
    ingested(tmp_path, experiment)
    with (
        open_run(experiment, None, tmp_path) as folder,
        pytest.raises(UserError, match="both.distilled.s0 is not trained yet"),
    ):
        train_stage(folder, experiment, ["chained.distilled.s0"])


@pytest.mark.parametrize("model", ["exfm.distilled.s0", "teacher-old", "recent.distilled.s1"])
def test_resumes_bit_for_bit_from_every_checkpoint(run, tmp_path, model):
    experiment = run.experiment()
    job = next(job for job in (*teachers_of(experiment), *jobs_of(experiment)[1]) if job.name == model)
    want = Checkpoints(run.model(model)).latest()[1].tensors
    for block in (0, 1):
        again = build.trainer_of(run, experiment, job)
        again = type(again)(
            **{**vars(again), "checkpoints": Checkpoints(tmp_path / f"{block}"), "model": f"copy-{model}-{block}"}
        )
        steps = again.run_to_end()
        while Checkpoints(tmp_path / f"{block}").newest() != block:
            next(steps)
        steps.close()
        rest = build.trainer_of(run, experiment, job)
        rest = type(rest)(
            **{**vars(rest), "checkpoints": Checkpoints(tmp_path / f"{block}"), "model": f"copy-{model}-{block}"}
        )
        list(rest.run_to_end())
        assert same_bits(Checkpoints(tmp_path / f"{block}").latest()[1].tensors, want)


def test_exfms_serving_tower_hears_no_signal(run):
    """Two batches that differ in signals alone give the main tower's own weights the same gradient."""
    grads = []
    for shift in (0.0, 3.0):
        experiment = run.experiment()
        trained = build.trainer_of(
            run, experiment, next(j for j in jobs_of(experiment)[1] if j.name == "exfm.distilled.s0")
        )
        trained.learner.adapter.rows = 10_000  # past its silence
        batch = trained.builder.build(np.arange(100, 150))
        batch.signals.add_(shift)
        trained.learner.learn(batch, torch.ones(50, dtype=torch.bool))
        grads.append([p.grad.clone() for p in trained.learner.network.main.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("students.light.distill.teachers=[nobody]", "there is no 'nobody'"),
        ("students.light.distill.teachers=[light]", "'light' learns from 'light'"),
        ("students.light.distill.teachers=[teacher, teacher]", "names one twice"),
        ("students.light.distill={signals: crossfit, teachers: [light]}", "teachers must be"),
        ("students.light.distill={towers: single, label_scale: 2}", "with towers single there is none"),
        ("teacher.stale={steps: 1, hours: 1}", "name one of steps, hours and versions"),
        ("teacher.stale.steps=1", "set replay and epochs to 0"),
        ("teachers.light={}", "have one name"),
    ],
)
def test_what_cannot_be_is_refused(key, said):
    with pytest.raises(UserError, match=said):
        tiny(key)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("students.light.distill.weight={clik: 1}", "no task 'clik'; did you mean 'click'"),
        (
            "students.light.distill.gate={start: teacher-ahead, by: devise}",
            "no feature 'devise'; did you mean 'device'",
        ),
        ("candidates.item_features=[topik]", "no feature 'topik'; did you mean 'topic'"),
    ],
)
def test_names_of_the_log_are_checked_before_training(tmp_path: Path, key, said):
    folder = ingested(tmp_path, tiny(key))
    with pytest.raises(UserError, match=said):
        train_stage(folder, tiny(key))
    assert not (tmp_path / "models").exists()


def test_tiny_hears_its_teacher():
    assert "distill" in TINY and teacher_names(tiny(), jobs_of(tiny())[1][1]) == ["teacher"]


def test_candidates_and_logits_of_an_ensemble_are_of_one_sampling(tmp_path):
    """A teacher that learned from a quarter of the negatives: what it says of candidates is corrected as
    its logit is.
    """
    keys = (
        "teacher.sampling.negative=0.25",
        "teachers.other={kind: pooled-mlp, width: 4, history: 5, batch: 50}",
        "candidates.count=2",
        "students.light.distill={teachers: [teacher, other], candidates: 2}",
    )
    for name in ("teacher", "teacher-other"):
        ingested(tmp_path, tiny(*keys))
        job = next(job for job in (jobs_of(tiny(*keys))[0], *teachers_of(tiny(*keys))) if job.name == name)
        list(build.trainer_of(RunFolder(tmp_path), tiny(*keys), job).run_to_end())
    beside = trainer(tmp_path, tiny(*keys), "light.distilled.s0").builder.candidate_signals
    assert beside.log_odds_offset[0] == pytest.approx(np.log(4))
    alone = tiny(*keys[:3], "students.light.distill={candidates: 2}")
    (tmp_path / "run.json").unlink()
    assert trainer(tmp_path, alone, "light.distilled.s0").builder.candidate_signals.log_odds_offset[0] == 0
