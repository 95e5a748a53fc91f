"""Cross-fitted signals: no fold scored what it learned from, and no student hears one of a sample that is scored."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recdistill.app.run import ingest_stage, open_run, run_pipeline, train_stage
from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.batch.batch import Batch
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.evaluate.summary import load
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import folds_of_teacher, jobs_of
from recdistill.runs.names import CROSSFIT
from recdistill.signals.folds import folds_of
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from recdistill.train.learner import Learner
from recdistill.train.trainer import Trainer
from tests.support.processes import exit_code

CONFIG = """
name: t
data: {reader: simulator, options: {rows: 3000, users: 40, items: 60, days: 1.0}}
teacher: {kind: pooled-mlp, width: 4, history: 10, batch: 100, epochs: 1}
students:
  plain: {kind: pooled-mlp, width: 4, history: 5, batch: 100}
  crossed: {kind: pooled-mlp, width: 4, history: 5, batch: 100, distill: {signals: crossfit}}
crossfit: {folds: 3, share: 0.4}
evaluate: {seeds: [0, 1], bootstrap: 20}
checkpoint_rows: 500
"""
EARLY = 1200
FOLD = """
import sys
from pathlib import Path
from recdistill.train import build
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import folds_of_teacher
folder = RunFolder(Path(sys.argv[1]))
experiment = folder.experiment()
list(build.trainer_of(folder, experiment, folds_of_teacher(experiment)[0]).run_to_end())
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[RunFolder, Experiment]]:
    """A run that read its log, and trained nothing."""
    torch.set_num_threads(1)
    experiment = load_text(CONFIG)
    with open_run(experiment, None, tmp_path / "run") as folder:
        ingest_stage(folder, experiment, None)
        yield folder, experiment


def by(experiment: Experiment, what: str) -> Experiment:
    return load_text(CONFIG, [f"crossfit.by={what}"])


@pytest.mark.parametrize("what", ["sample", "user", "time"])
def test_no_fold_scores_what_it_learned_from(
    run: tuple[RunFolder, Experiment], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, experiment = run[0], by(run[1], what)
    learned: set[int] = set()
    learn = Learner.learn

    def spy(self: Learner, batch: Batch, keep: torch.Tensor, *more: Any) -> Any:
        learned.update(batch.sample_id[keep].tolist())
        return learn(self, batch, keep, *more)

    monkeypatch.setattr(Learner, "learn", spy)
    store, scored = SampleStore(folder.store), []
    for job in folds_of_teacher(experiment):
        learned.clear()
        list(build.trainer_of(folder, experiment, job).run_to_end())
        said = pl.concat(PredictionLog.open(folder.predictions).of(CROSSFIT)).filter(version=job.fold)
        mine = set(said["sample_id"])
        assert mine and not mine & learned
        _, known = store.labels_as_of(np.arange(EARLY), int(store.time[EARLY - 1]))
        assert 0.9 * EARLY < known.sum() < EARLY  # nothing later than the first part, nor what was known later
        assert learned == set(store.sample_id[:EARLY][known].tolist()) - mine
        scored += said["sample_id"].to_list()
    assert sorted(scored) == sorted(store.sample_id[:EARLY].tolist())


def test_a_folds_rate_falls_as_its_teachers_does(run: tuple[RunFolder, Experiment]) -> None:
    experiment = load_text(CONFIG, ["teacher.rate_end=0.1"])
    trainer, rates = build.trainer_of(run[0], experiment, folds_of_teacher(experiment)[0]), [3e-3]
    for _ in trainer.run_to_end():
        rates.append(trainer.learner.optimiser.param_groups[0]["lr"])
    assert rates == sorted(rates, reverse=True) and rates[-1] < 7e-4


def test_folds_are_drawn_by_sample_user_or_time(run: tuple[RunFolder, Experiment]) -> None:
    store = SampleStore(run[0].store)
    for what in ("sample", "user", "time"):
        folds = folds_of(store, EARLY, by(run[1], what).crossfit)
        assert set(folds) == {0, 1, 2} and np.bincount(folds).min() > EARLY // 6
        if what == "user":
            assert all(len(set(folds[store.user[:EARLY] == user])) == 1 for user in set(store.user[:EARLY].tolist()))
        if what == "time":
            assert (np.diff(folds) >= 0).all()


def test_a_student_hears_the_folds_first_and_the_teacher_afterwards(run: tuple[RunFolder, Experiment]) -> None:
    folder, experiment = run
    train_stage(folder, experiment)
    store, predictions = SampleStore(folder.store), PredictionLog.open(folder.predictions)
    said = {name: pl.concat(predictions.of(name)) for name in ("teacher", CROSSFIT)}
    assert set(said[CROSSFIT]["kind"]) == {"crossfit"}
    students = {job.name: job for job in jobs_of(experiment)[1]}
    for name, early in (("crossed.distilled.s0", CROSSFIT), ("plain.distilled.s0", "teacher")):
        trainer = build.trainer_of(folder, experiment, students[name])
        assert isinstance(trainer, Trainer)
        signals = np.array(trainer.builder.signals)
        for model, part in ((early, slice(0, EARLY)), ("teacher", slice(EARLY, None))):
            at = {sample: k for k, sample in enumerate(said[model]["sample_id"])}
            rows = [at[sample] for sample in store.sample_id[part].tolist()]
            assert np.array_equal(signals[part], said[model].select("^logit_.*$").to_numpy()[rows])


def test_a_fold_that_is_killed_ends_as_if_it_had_not_been(run: tuple[RunFolder, Experiment], tmp_path: Path) -> None:
    folder, experiment = run
    with open_run(experiment, None, tmp_path / "whole") as whole:
        ingest_stage(whole, experiment, None)
        job = folds_of_teacher(experiment)[0]
        list(build.trainer_of(whole, experiment, job).run_to_end())
    for point in ("checkpoint.published:2", "table.commit:1", "checkpoint.written:1"):
        assert exit_code(FOLD, folder.root, point=point) == -signal.SIGKILL
    list(build.trainer_of(folder, experiment, job).run_to_end())
    want, got = (
        pl.concat(PredictionLog.open(each.predictions).of(CROSSFIT)).sort("sample_id") for each in (whole, folder)
    )
    assert got.equals(want)


def test_a_whole_run_reports_both_students(tmp_path: Path) -> None:
    run_pipeline(load_text(CONFIG), None, tmp_path / "run")
    students = load(tmp_path / "run" / "summary.json").students
    said = {name: student.distilled.settings["signals"] for name, student in students.items()}
    assert said == {"crossed": "crossfit", "plain": "prequential"}
    assert students["crossed"].raw.auc == students["plain"].raw.auc  # one raw student for both
    assert students["crossed"].distilled.auc != students["plain"].distilled.auc
    assert "cross-fitted signals" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_student_waits_for_its_folds(run: tuple[RunFolder, Experiment]) -> None:
    folder, experiment = run
    train_stage(folder, experiment, ["teacher"])
    with pytest.raises(UserError, match=r"teacher\.fold0 is not trained yet; run: recdistill train"):
        train_stage(folder, experiment, ["crossed.distilled.s0"])


def test_a_fold_can_be_trained_alone(run: tuple[RunFolder, Experiment]) -> None:
    folder, experiment = run
    train_stage(folder, experiment, ["teacher.fold1"])
    assert build.finished(folder, folds_of_teacher(experiment)[1], EARLY)


def test_samples_whose_signals_knew_the_future_are_not_scored() -> None:
    with pytest.raises(UserError, match=r"evaluate\.start 0\.3 lies before crossfit\.share 0\.4"):
        load_text(CONFIG, ["evaluate.start=0.3"])
    assert not load_text("{name: t, data: {}, evaluate: {start: 0.3}}").crossfits
