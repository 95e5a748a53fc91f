"""Labels that are neither 0 nor 1: read as they stand, shown to histories by one rule, refused where both classes are
needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recdistill.config.data import ColumnsConfig, TaskColumn
from recdistill.config.load import load_text
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.live_store import LiveStore
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.evaluate.graded import ndcg
from recdistill.evaluate.summary import METRICS, load
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from tests.data.readers.test_lacking import MODELS, stored
from tests.data.readers.test_tabular import START, table
from tests.support.commands import typed

SOFT = ColumnsConfig(tasks={"click": TaskColumn(column="score", soft=True)})


def rows(count: int = 600) -> pl.DataFrame:
    """Return a log in order of time; its `score` lies from 0 to 1, its `seconds` from 0 on."""
    draw = np.random.default_rng(0)
    user, item = draw.integers(0, 9, count), draw.integers(0, 5, count)
    liking = 1 / (1 + np.exp(-(user - 4) / 2 - (item - 2) + draw.normal(0, 0.5, count)))
    return table(
        count,
        time=pl.Series(START + np.arange(count)),
        user_id=pl.Series(user),
        item_id=pl.Series(item),
        score=pl.Series(liking.round(3)),
        seconds=pl.Series((60 * liking).round(1)),
        weight=pl.Series(draw.integers(0, 4, count) / 2),
        tags=pl.Series(["a"] * count),
    )


def live_of(folder: Path, events: pl.DataFrame) -> LiveStore:
    """Return the stream's store of the same rows, in two commits."""
    live = LiveStore(folder / "live", EventLog.open(folder / "events").schema, None, behaviors=False)
    for part in (events[:250], events[250:]):
        live.add(part)
    return live


def assert_same_batches(store: SampleStore, live: LiveStore) -> None:
    one, other = (BatchBuilder(source, 20).build(np.arange(len(store))) for source in (store, live))
    for name in ("sample_id", "labels", "weight", "numbers"):
        assert torch.equal(getattr(one, name).nan_to_num(-1), getattr(other, name).nan_to_num(-1)), name
    for name in ("index", "ago", "action", "offsets", "of"):
        assert torch.equal(getattr(one.history, name), getattr(other.history, name)), name


def test_a_soft_label_is_kept_and_histories_show_whether_it_is_at_least_a_half(tmp_path: Path) -> None:
    found, store = stored(tmp_path, SOFT, rows())
    score = rows()["score"].to_numpy().astype(np.float32)
    assert found["label_click"].to_numpy().tolist() == store.labels[:, 0].tolist() == score.tolist()
    assert sorted(store.histories.action.tolist()) == sorted((score >= 0.5).astype(int).tolist())
    assert_same_batches(store, live_of(tmp_path, found))


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("inf")])
def test_what_is_no_soft_label_is_refused_by_its_row(wrong: float, tmp_path: Path) -> None:
    frame = rows().with_columns(score=pl.when(pl.int_range(600) == 7).then(wrong).otherwise("score"))
    with pytest.raises(UserError, match=r"row 7, column 'score': must be a number from 0 to 1, or empty") as caught:
        stored(tmp_path, SOFT, frame)
    assert "\n" not in str(caught.value)


def test_a_soft_label_runs_to_its_report(tmp_path: Path) -> None:
    rows().write_csv(tmp_path / "log.csv")
    text = f"name: x\ndata: {{path: log.csv, columns: {{tasks: {{click: {{column: score, soft: true}}}}}}}}{MODELS}"
    (tmp_path / "x.yaml").write_text(text)
    code, printed = typed("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 0, printed
    summary = load(tmp_path / "run" / "summary.json")
    assert summary.models.teacher.auc is not None and 0.4 < summary.models.teacher.auc < 1
    assert set(summary.baselines) >= {"counts"}
    score = rows()["score"].to_numpy()[300:]
    rate = summary.models.teacher.logloss / summary.models.teacher.ne  # type: ignore[operator]
    mean = score.mean()
    assert rate == pytest.approx(-(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)), rel=1e-3)


@pytest.mark.parametrize(
    ("data", "more", "key"),
    [
        ("sampling: {negative: 0.5}", "", "sampling"),
        ("keep_rates: {click: [1, 0.5]}", "", "keep_rates.click"),
        ("negatives: {}", "", "negatives"),
        ("limit: 9", "labels: {window_s: 60}", "labels.window_s"),
        ("limit: 9", "teacher: {sampling: {negative: 0.5}}", "teacher.sampling"),
        ("limit: 9", "students: {a: {sampling: {negative: 0.5}}}", "students.a.sampling"),
    ],
)
def test_what_counts_positives_and_negatives_is_refused_by_name(data: str, more: str, key: str) -> None:
    columns = "columns: {tasks: {click: {column: score, soft: true}}}"
    with pytest.raises(UserError) as caught:
        load_text(f"name: x\ndata: {{path: log.csv, {columns}, {data}}}\n{more}")
    assert f"{key}: needs labels of 0 and 1; those of task 'click' are soft" in str(caught.value)
    assert "\n" not in str(caught.value)


WEIGHTED = ColumnsConfig(tasks={"click": TaskColumn(column="score", at_least=0.5)}, weight="weight")


def test_weights_are_the_same_in_both_stores(tmp_path: Path) -> None:
    found, store = stored(tmp_path, WEIGHTED, rows())
    assert store.weight.tolist() == rows()["weight"].to_list() and len(set(store.weight)) == 4
    assert_same_batches(store, live_of(tmp_path, found))


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), None, 1e39])
def test_what_is_no_weight_is_refused_by_its_row(wrong: float | None, tmp_path: Path) -> None:
    weight = [1.0] * 600
    frame = rows().with_columns(weight=pl.Series([*weight[:7], wrong, *weight[8:]]))
    with pytest.raises(UserError, match=r"row 7, column 'weight': must be a finite number of at least 0") as caught:
        stored(tmp_path, WEIGHTED, frame)
    assert "\n" not in str(caught.value)


def test_a_weight_that_is_a_feature_is_refused() -> None:
    with pytest.raises(UserError, match="column 'w' is the weight of the rows, so it cannot be a feature"):
        load_text("name: x\ndata: {path: log.csv, columns: {weight: w, numeric: [w]}}")


def predictions_of(folder: Path, model: str) -> list[list[object]]:
    log = PredictionLog.open(folder / "predictions")
    return sorted(pl.concat(list(log.of(model, log.version, ["sample_id", "logit_click"]))).rows())


def test_weights_of_one_run_bit_for_bit_as_none_and_others_do_not(tmp_path: Path) -> None:
    rows().with_columns(one=pl.lit(1.0)).write_csv(tmp_path / "log.csv")
    found = {}
    for name in ("none", "one", "weight"):
        weight = "" if name == "none" else f", weight: {name}"
        columns = f"{{tasks: {{click: {{column: score, at_least: 0.5}}}}{weight}}}"
        (tmp_path / "x.yaml").write_text(f"name: x\ndata: {{path: log.csv, columns: {columns}}}{MODELS}")
        out = tmp_path / name
        code, printed = typed("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", out)
        assert code == 0, printed
        summary = load(out / "summary.json")
        scores = [[getattr(m, k) for k in METRICS] for m in (summary.models.raw, *summary.baselines.values())]
        found[name] = (scores, [predictions_of(out, m) for m in ("teacher", "light.distilled.s0")], summary.rows)
    assert found["none"] == found["one"]
    assert found["none"][1] != found["weight"][1]
    assert found["weight"][2] == int((rows()["weight"][300:] > 0).sum()) < found["none"][2]
    new = rows().drop("score", "weight")
    new.write_parquet(tmp_path / "new.parquet")
    code, printed = typed(
        "predict", tmp_path / "weight", "light", "--data", tmp_path / "new.parquet", "--out", tmp_path / "p.csv"
    )
    assert code == 0 and len(pl.read_csv(tmp_path / "p.csv")) == 600, printed


def values(loss: str, **more: float) -> ColumnsConfig:
    return ColumnsConfig(tasks={"watch": TaskColumn(column="seconds", regression=loss, **more), "click": "label"})  # type: ignore[arg-type]


@pytest.mark.parametrize(("loss", "scale"), [("log", 1.0), ("log", 10.0), ("huber", 20.0)])
def test_a_regression_is_learned_in_its_own_scale(loss: str, scale: float, tmp_path: Path) -> None:
    frame = rows().with_columns(seconds=pl.when(pl.int_range(600) % 3 == 0).then(0.0).otherwise("seconds"))
    found, store = stored(tmp_path, values(loss, scale=scale), frame)
    seconds = frame["seconds"].to_numpy()
    np.testing.assert_allclose(found["label_watch"].to_numpy(), seconds, rtol=1e-6)
    want = np.log1p(seconds / scale) if loss == "log" else seconds / scale
    np.testing.assert_allclose(store.labels[:, 0], want, rtol=1e-6)
    assert store.histories.action.sum() == (seconds > 0).sum() < 600
    assert_same_batches(store, live_of(tmp_path, found))


@pytest.mark.parametrize(("loss", "wrong"), [("log", -1.0), ("log", float("inf")), ("huber", float("-inf"))])
def test_what_is_no_value_is_refused_by_its_row(loss: str, wrong: float, tmp_path: Path) -> None:
    frame = rows().with_columns(seconds=pl.when(pl.int_range(600) == 7).then(wrong).otherwise("seconds"))
    with pytest.raises(UserError, match=r"row 7, column 'seconds': must be a finite number") as caught:
        stored(tmp_path, values(loss), frame)
    assert "\n" not in str(caught.value)


def test_a_regression_runs_to_its_report_and_says_what_it_has_not(tmp_path: Path) -> None:
    rows().write_csv(tmp_path / "log.csv")
    tasks = "{watch: {column: seconds, regression: log}, long: {column: seconds, at_least: 30}}"
    text = f"name: x\ndata: {{path: log.csv, columns: {{tasks: {tasks}, weight: weight}}}}{MODELS}"
    (tmp_path / "x.yaml").write_text(text.replace("seeds: [0]", "seeds: [0, 1]") + "controls: [self]\n")
    code, printed = typed("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 0, printed
    assert "warning: Task 'watch' is a regression: it has no baselines, simple rules" in printed
    assert "simple rules: none; they need outcomes, and task 'watch' is a regression" in printed
    assert "watch values, 600 known" in printed and "LogLoss" not in printed
    summary = load(tmp_path / "run" / "summary.json")
    raw, seconds = summary.models.raw, rows()["seconds"].to_numpy()[300:]
    assert raw.metrics == ("xauc", "mae", "rmse", "calibration") and raw.auc is None and not summary.baselines
    weight = rows()["weight"].to_numpy()[300:]
    log = PredictionLog.open(tmp_path / "run" / "predictions")
    of = [pl.concat(list(log.of(f"light.raw.s{k}", log.version, ["sample_id", "logit_watch"]))) for k in (0, 1)]
    error = [np.abs(np.expm1(one.sort("sample_id")["logit_watch"].to_numpy()[300:]) - seconds) for one in of]
    assert raw.mae == pytest.approx(np.mean([np.average(one, weights=weight) for one in error]), rel=1e-4)
    assert summary.transferability.names == ("xauc", "mae", "rmse")
    other = summary.further_tasks["long"]
    assert other.teacher.auc is not None and other.teacher.mae is None
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "XAUC" in report and "MAE" in report and (tmp_path / "run" / "model-card.md").exists()
    rows().drop("seconds").write_parquet(tmp_path / "new.parquet")
    out = tmp_path / "p.csv"
    code, printed = typed("predict", tmp_path / "run", "light", "--data", tmp_path / "new.parquet", "--out", out)
    assert code == 0, printed
    found = pl.read_csv(out)
    assert found.columns == ["sample_id", "logit_watch", "value_watch", "logit_long", "probability_long"]
    np.testing.assert_allclose(found["value_watch"], np.expm1(found["logit_watch"].to_numpy()), rtol=1e-3)
    code, printed = typed("compare", tmp_path / "run", tmp_path / "run", "--out", tmp_path / "c.html")
    assert code == 0, printed


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("labels: {window_s: 60}", "labels.window_s"),
        ("teacher: {sampling: {negative: 0.5}}", "teacher.sampling"),
        ("students: {a: {distill: {listwise: 1.0}}}", "students.a.distill.listwise"),
        ("students: {a: {distill: {adapter: {}}}}", "students.a.distill.adapter"),
        ("students: {a: {distill: {ensemble: recent}}}", "students.a.distill.ensemble"),
        ("students: {a: {distill: {gate: {start: teacher-ahead}}}}", "students.a.distill.gate.start"),
    ],
)
def test_what_needs_outcomes_is_refused_of_a_regression(more: str, key: str) -> None:
    columns = "columns: {tasks: {watch: {column: seconds, regression: log}, click: label}}"
    with pytest.raises(UserError) as caught:
        load_text(f"name: x\ndata: {{path: log.csv, {columns}}}\n{more}")
    assert f"{key}: needs labels of 0 and 1; task 'watch' is a regression" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sampling_by_a_first_task_of_outcomes_is_refused_too() -> None:
    columns = "columns: {tasks: {click: label, watch: {column: seconds, regression: huber}}}"
    with pytest.raises(UserError, match="sampling: needs labels of 0 and 1; task 'watch' is a regression"):
        load_text(f"name: x\ndata: {{path: log.csv, {columns}, sampling: {{negative: 0.5}}}}")


def test_a_teachers_file_may_hold_values_in_the_labels_unit(tmp_path: Path) -> None:
    rows().write_csv(tmp_path / "log.csv")
    tasks = "{watch: {column: seconds, regression: log, scale: 5}}"
    (tmp_path / "x.yaml").write_text(f"name: x\ndata: {{path: log.csv, columns: {{tasks: {tasks}}}}}{MODELS}")
    out = tmp_path / "run"
    assert typed("ingest", tmp_path / "x.yaml", "--data", tmp_path, "--out", out)[0] == 0
    guess = rows()["seconds"].to_numpy() + 3
    for name, wrong in (("value_watch", -6.0), ("probability_watch", 0.5)):
        pl.DataFrame({"sample_id": range(600), name: [wrong] * 600}).write_parquet(tmp_path / "bad.parquet")
        code, printed = typed("import-predictions", out, tmp_path / "bad.parquet")
        assert code == 2 and "value_watch" in printed, printed
    pl.DataFrame({"sample_id": range(600), "value_watch": guess}).write_parquet(tmp_path / "good.parquet")
    assert typed("import-predictions", out, tmp_path / "good.parquet")[0] == 0
    code, printed = typed("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", out)
    assert code == 0, printed
    teacher = load(out / "summary.json").models.teacher
    assert teacher.mae == pytest.approx(3, rel=1e-4) and teacher.xauc == 1


def test_levels_run_to_their_ndcg(tmp_path: Path) -> None:
    rows().with_columns(rating=(pl.col("score") * 5).round()).write_csv(tmp_path / "log.csv")
    tasks = "{like: {column: rating, levels: [2, 4]}}"
    (tmp_path / "x.yaml").write_text(f"name: x\ndata: {{path: log.csv, columns: {{tasks: {tasks}}}}}{MODELS}")
    code, printed = typed("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 0 and "like: NDCG by user: teacher 0." in printed, printed
    summary = load(tmp_path / "run" / "summary.json")
    assert summary.tasks == ["like_2", "like_4"] and set(summary.graded["like"]) == {
        "teacher",
        "light raw",
        "light distilled",
    }
    log = PredictionLog.open(tmp_path / "run" / "predictions")
    wanted = ["sample_id", "logit_like_2", "logit_like_4"]
    found = pl.concat(list(log.of("teacher", log.version, wanted))).sort("sample_id")[300:]
    score = sum(1 / (1 + np.exp(-found[name].to_numpy().astype(float))) for name in wanted[1:])
    rating = (rows()["score"] * 5).round().to_numpy()[300:]
    user = rows()["user_id"].to_numpy()[300:]
    assert summary.graded["like"]["teacher"] == pytest.approx(ndcg((rating >= 2) + (rating >= 4) * 1, score, user))
    assert "like: NDCG by user" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
