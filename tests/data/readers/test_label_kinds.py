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
