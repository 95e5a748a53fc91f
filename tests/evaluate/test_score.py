"""A whole run scored over real tables: two tasks, missing labels, requests, and students whose eta is known
beforehand.
"""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from recdistill.config.experiment import EvaluateConfig
from recdistill.errors import RecdistillError, UserError
from recdistill.evaluate import metrics
from recdistill.evaluate.model_facts import ModelFacts, StudentModels, TrainingCosts
from recdistill.evaluate.score import score
from recdistill.evaluate.summary import METRICS, load, write_summary
from recdistill.report.page import render
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.workers.parts import Workers

ROWS, LIST, SEEDS = 6000, 5, (3, 4)


START = datetime(2024, 5, 1, tzinfo=UTC)


CONFIG = EvaluateConfig(seeds=list(SEEDS), group="request", bootstrap=200)


SAMPLED = math.log(1.0 / 0.1)  # what negatives kept with 0.1 add to the log-odds


def write_events(path, draw):
    """Write the log; return it with the true log-odds of each task. A tenth of the clicks and a quarter of
    the buys are unknown.
    """
    request = np.arange(ROWS) // LIST
    user = draw.integers(0, 250, ROWS // LIST)[request]
    true = {"click": draw.normal(-0.5, 1.5, ROWS), "buy": draw.normal(-1.0, 1.5, ROWS)}
    labels = {}
    for task, unknown in (("click", 0.1), ("buy", 0.25)):
        label = (draw.random(ROWS) < metrics.probability(true[task])).astype(np.float32)
        labels[f"label_{task}"] = pl.Series(
            np.where(draw.random(ROWS) < unknown, np.nan, label), dtype=pl.Float32
        ).fill_nan(None)
    time = pl.Series([START + timedelta(minutes=i) for i in range(ROWS)], dtype=pl.Datetime("us", "UTC"))
    rows = pl.DataFrame(
        {
            "sample_id": draw.permutation(ROWS) * 3,
            "time": time,
            "user_id": user,
            "item_id": draw.integers(0, 900, ROWS),
            "request_id": request,
            **labels,
        }
    )
    schema = EventSchema(tasks=("click", "buy"), has_request=True, keep_rates={"click": (1.0, 0.25)})
    EventLog.create(path / "tables" / "events", schema).append(rows, writer="test", sequence=0)
    return rows, true


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return (folder, events, logits by model and task): `sampled` predicts what the teacher does, at higher odds."""
    path, draw = tmp_path_factory.mktemp("run"), np.random.default_rng(5)
    rows, true = write_events(path, draw)
    noise = {seed: {task: draw.normal(0, 1, ROWS) for task in true} for seed in SEEDS}
    logits_of_models = {"teacher": {task: z + draw.normal(0, 0.3, ROWS) for task, z in true.items()}}
    logits_of_models["sampled"] = {task: z + SAMPLED for task, z in logits_of_models["teacher"].items()}
    for seed in SEEDS:
        logits_of_models[f"weak.s{seed}"] = {task: z + 3 * noise[seed][task] for task, z in true.items()}
        logits_of_models[f"better.s{seed}"] = {task: z + 1 * noise[seed][task] for task, z in true.items()}
    log = PredictionLog.create(path / "predictions", ("click", "buy"))
    for model, logits in logits_of_models.items():
        columns = {f"logit_{task}": pl.Series(z, dtype=pl.Float32) for task, z in logits.items()}
        mixed = rows.select("sample_id", "time").with_columns(**columns).sample(fraction=1, shuffle=True, seed=1)
        log.append(mixed, model=model, version=0, kind="prequential", writer=model, sequence=0)
    return path, rows, logits_of_models


COSTS = TrainingCosts(100, 2000, 50_000.0, 0.9, rows=54_000, steps=600, seconds=1.5)


def facts(name, seed=0, log_odds_offset=0.0):
    return ModelFacts(name, seed, log_odds_offset, COSTS, {"kind": "din", "width": 8, "history": 20})


def pair(raw, distilled):
    """Return a student of both seeds; a name without a seed is the same model for each."""
    models = ([facts(name.format(seed), seed) for seed in SEEDS] for name in (raw, distilled))
    return StudentModels(*models)


STUDENTS = {
    "copy": pair("weak.s{}", "teacher"),
    "nothing": pair("weak.s{}", "weak.s{}"),
    "part": pair("weak.s{}", "better.s{}"),
    "strong": pair("teacher", "better.s{}"),
}


@pytest.fixture(scope="module")
def summary(run):
    return score("run", run[0] / "tables", [facts("teacher")], STUDENTS, CONFIG)


def test_the_summary_is_the_same_to_the_bit_by_two_workers(run, summary):
    found = score("run", run[0] / "tables", [facts("teacher")], STUDENTS, CONFIG, workers=Workers(2))
    assert found.model_copy(update={"created": summary.created}) == summary
    assert not (run[0] / "scoring").exists()


def tasks_of(summary):
    return {"click": summary.students, "buy": summary.further_tasks["buy"].students}


@pytest.mark.parametrize("task", ["click", "buy"])
@pytest.mark.parametrize("metric", ["auc", "gauc", "ne"])
def test_eta_is_1_for_a_copy_of_the_teacher_and_0_for_one_that_learned_nothing(summary, task, metric):
    etas = {name: getattr(student.transferability, metric) for name, student in tasks_of(summary)[task].items()}
    assert (etas["copy"].eta, etas["copy"].low, etas["copy"].high) == pytest.approx((1, 1, 1))
    assert (etas["nothing"].eta, etas["nothing"].low, etas["nothing"].high) == pytest.approx((0, 0, 0))
    assert 0 < etas["part"].low < etas["part"].eta < min(1, etas["part"].high)
    assert (etas["strong"].eta, etas["strong"].low, etas["strong"].high) == (None, None, None)
    assert etas["strong"].why == "the teacher is not better than the raw student (gain +0.0000)"


def test_an_eta_names_the_metrics_on_which_its_teacher_loses(run):
    path, rows, logits_of_models = run
    log = PredictionLog.open(path / "predictions")
    loud = {f"logit_{task}": pl.Series(8 * z, dtype=pl.Float32) for task, z in logits_of_models["teacher"].items()}
    mixed = rows.select("sample_id", "time").with_columns(**loud)
    log.append(mixed, model="loud", version=0, kind="prequential", writer="loud", sequence=0)
    found = score("run", path / "tables", [facts("loud")], {"part": STUDENTS["nothing"]}, CONFIG)
    etas = found.transferability
    assert etas.auc.eta == pytest.approx(0) and etas.gauc.loses_on == etas.auc.loses_on == ["ne"]
    assert etas.ne.eta is None and etas.ne.loses_on == [] and etas.ne.teacher_gain < 0
    assert etas.auc.teacher_gain_low < etas.auc.teacher_gain < etas.auc.teacher_gain_high
    assert any("worse than the raw student on NE" in line for line in found.warnings)


def test_intervals_over_items_and_time_stand_next_to_that_over_users(summary):
    eta = summary.students["part"].transferability.gauc
    assert set(eta.intervals) == {"user", "item", "time"} and eta.intervals["user"] == (eta.low, eta.high)
    widths = {unit: high - low for unit, (low, high) in eta.intervals.items()}
    assert widths[eta.widest] == max(widths.values())
    assert all(low < eta.eta < high for low, high in eta.intervals.values())  # nothing is shared here
    assert summary.students["strong"].transferability.gauc.intervals == {}
    assert "the widest is over" in render(summary)


def test_a_seed_that_diverged_is_left_out_with_its_twin_on_every_task(run):
    path, rows, logits_of_models = run
    log = PredictionLog.open(path / "predictions")
    for name, scale in (("weak.s5", 1.01), ("weak.s6", 4.0), ("better.s5", 1.0), ("better.s6", 1.0)):
        like = logits_of_models[name[:-1] + "3"]
        columns = {f"logit_{task}": pl.Series(scale * z, dtype=pl.Float32) for task, z in like.items()}
        mixed = rows.select("sample_id", "time").with_columns(**columns)
        log.append(mixed, model=name, version=0, kind="prequential", writer=name, sequence=0)
    seeds = (3, 4, 5, 6)
    every = StudentModels([facts(f"weak.s{s}", s) for s in seeds], [facts(f"better.s{s}", s) for s in seeds])
    three = StudentModels(every.raw[:3], every.distilled[:3])
    found = score("run", path / "tables", [facts("teacher")], {"part": every}, CONFIG)
    clean = score("run", path / "tables", [facts("teacher")], {"part": three}, CONFIG)
    (left,) = found.students["part"].left_out
    assert (left.seed, left.variant) == (6, "raw") and left.ne > left.median + 0.02
    assert clean.students["part"].left_out == []
    for one, other in zip(tasks_of(found).values(), tasks_of(clean).values(), strict=True):
        assert one["part"].raw == other["part"].raw and one["part"].raw.seeds == [3, 4, 5]
        assert one["part"].transferability == other["part"].transferability
    assert any(line.startswith("part: seed 6 diverged and is left out") for line in found.warnings)


@pytest.mark.parametrize("task", ["click", "buy"])
def test_every_task_is_scored_on_the_rows_whose_label_is_known(run, summary, task):
    _, rows, logits_of_models = run
    window = np.arange(ROWS) >= ROWS // 2
    known = window & rows[f"label_{task}"].is_not_null().to_numpy()
    label = rows[f"label_{task}"].fill_null(0).to_numpy()[known]
    request, user = (rows[name].to_numpy()[known] for name in ("request_id", "user_id"))
    logits = [logits_of_models[f"weak.s{seed}"][task].astype(np.float32)[known] for seed in SEEDS]
    expected = [metrics.score(label, z, request).values for z in logits]
    model = tasks_of(summary)[task]["part"].raw
    for name in METRICS:
        assert model.metric(name) == pytest.approx(np.mean([one[name] for one in expected]), abs=1e-9)
        assert model.std[name] == pytest.approx(np.std([one[name] for one in expected], ddof=1), abs=1e-9)
    by_user = np.mean([metrics.gauc(label, z, user) for z in logits])
    assert model.gauc_by == pytest.approx({"user": by_user, "request": model.gauc})
    assert known.sum() == (summary.rows if task == "click" else summary.further_tasks["buy"].rows)


def test_windows_and_slices_hold_every_metric_and_intervals(summary):
    details = summary.students["part"].details
    assert {*details.curves} == {*details.calibration} == {"teacher", "raw", "distilled"}
    assert {*details.curves["teacher"].metrics} == {*METRICS}
    raw, distilled = (details.curves[model].metrics["kl"] for model in ("raw", "distilled"))
    assert all(0 < near < far for near, far in zip(distilled, raw, strict=True))
    for part in details.slices:
        assert all({*values} == {*METRICS} for values in part.metrics.values())
        assert bool(part.why) if part.eta is None else part.low < part.eta < part.high
    assert {part.slice for part in details.slices} >= {"new_item", "history_length", "hour"}


def test_what_was_written_is_read_and_drawn(summary, tmp_path):
    write_summary(summary, tmp_path / "summary.json")
    assert load(tmp_path / "summary.json") == summary
    page = render(summary)
    assert all(f"<b>{name}</b>" in page for name in STUDENTS) and "din, width 8, history 20" in page
    raw = summary.models.raw
    assert (raw.rows_learned, raw.steps, raw.seconds, raw.flops) == (54_000, 600, 1.5, None)
    assert "54,000 rows, 600 steps, 1.5 s" in page
    assert summary.coverage == 0.9 and summary.models.raw.seeds == list(SEEDS)


def test_a_models_own_sampling_is_taken_out_and_the_logs_is_not(run, summary):
    sampled = score(
        "run", run[0] / "tables", [facts("sampled", log_odds_offset=SAMPLED)], {"copy": STUDENTS["copy"]}, CONFIG
    )
    for name in METRICS:
        assert sampled.models.teacher.metric(name) == pytest.approx(summary.models.teacher.metric(name), rel=1e-4)
    assert sampled.models.teacher.calibration == pytest.approx(1, abs=0.05)  # the labels were sampled as the log was
    buy, exact = sampled.further_tasks["buy"], summary.further_tasks["buy"]
    assert buy.teacher.auc == pytest.approx(exact.teacher.auc) and buy.students[
        "copy"
    ].transferability.gauc.eta == pytest.approx(1)
    for name in ("logloss", "ne", "calibration", "ece"):
        assert buy.teacher.metric(name) is None and "sampled by 'click'" in buy.teacher.why[name]
    assert "sampled by 'click'" in buy.students["copy"].transferability.ne.why
    assert "kl" not in buy.students["copy"].details.curves["raw"].metrics


def test_refused_when_nothing_is_labelled_or_a_model_is_not_trained(run, tmp_path):
    with pytest.raises(RecdistillError, match="untrained: 2,.* scored samples have no prediction"):
        score("run", run[0] / "tables", [facts("untrained")], STUDENTS, CONFIG)
    unlabelled = run[1].with_columns(label_click=pl.when(pl.int_range(pl.len()) < ROWS // 2).then("label_click"))
    log = EventLog.create(tmp_path / "tables" / "events", EventSchema(tasks=("click", "buy"), has_request=True))
    log.append(unlabelled, writer="test", sequence=0)
    PredictionLog.create(tmp_path / "predictions", ("click", "buy"))
    with pytest.raises(UserError, match="no row after the first 50% has a label of 'click'"):
        score("run", tmp_path / "tables", [facts("teacher")], STUDENTS, CONFIG)


def test_a_further_task_without_labels_has_a_reason(run, tmp_path):
    rows = run[1].with_columns(label_buy=pl.lit(None, pl.Float32))
    log = EventLog.create(tmp_path / "tables" / "events", EventSchema(tasks=("click", "buy"), has_request=True))
    log.append(rows, writer="test", sequence=0)
    (tmp_path / "predictions").symlink_to(run[0] / "predictions")
    buy = score("run", tmp_path / "tables", [facts("teacher")], {"copy": STUDENTS["copy"]}, CONFIG).further_tasks["buy"]
    assert buy.rows == 0 and buy.teacher.auc is None and buy.teacher.why["auc"] == "there are no rows"
    assert buy.students["copy"].transferability.gauc.why == "the metric is not defined on this window"
