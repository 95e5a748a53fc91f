"""Shadows against what was served: on the rows that both predicted, whose outcome is settled, and on no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from recdistill.evaluate.shadows import compared
from recdistill.evaluate.summary import Shadow
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array
from tests.support.runs import tiny
from tests.support.scored_rows import events_of, record

ROWS, USERS = 600, 40
SETTINGS = ("evaluate.bootstrap=200",)


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(3)


def tables(
    path: Path, draw: np.random.Generator, noise: dict[str, float], **rows: slice
) -> tuple[Array, dict[str, Array]]:
    """Write a log, and for each model its logits with so much noise, of the `rows` alone where they are given; return
    the labels and logits.
    """
    true = draw.normal(0, 2, ROWS)
    label = (draw.random(ROWS) < 1 / (1 + np.exp(-true))).astype(np.float32)
    _, frame = events_of(path, {"user_id": draw.integers(0, USERS, ROWS), "label": label})
    log = PredictionLog.create(path / "predictions", ("click",))
    logits = {name: (true + draw.normal(0, wide, ROWS)).astype(np.float32) for name, wide in noise.items()}
    for name, of in logits.items():
        part = rows.get(name.replace(".", "_"), slice(None))
        record(log, frame[part], name, of[part])
    return label, logits


def found(path: Path, *settings: str) -> list[Shadow]:
    return compared(
        EventLog.open(path / "events"), PredictionLog.open(path / "predictions"), tiny(*SETTINGS, *settings)
    )


def test_both_are_scored_on_the_rows_that_both_predicted(tmp_path: Path, draw: np.random.Generator) -> None:
    noise = {"shadow.v2": 0.1, "served.v1": 4.0, "teacher": 0.0}
    label, logits = tables(tmp_path, draw, noise, shadow_v2=slice(100, None), served_v1=slice(0, 500))
    (pair,) = found(tmp_path)
    both = slice(100, 500)
    assert (pair.task, pair.shadow, pair.served, pair.rows) == ("click", "shadow.v2", "served.v1", 400)
    rate = label[both].mean()
    for name, model in (("shadow.v2", pair.models["shadow"]), ("served.v1", pair.models["served"])):
        p = 1 / (1 + np.exp(-logits[name][both].astype(np.float64)))
        assert model.auc == pytest.approx(roc_auc_score(label[both], p), abs=1e-9)
        assert model.calibration == pytest.approx(p.sum() / label[both].sum(), rel=1e-6)
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        assert model.ne == pytest.approx(log_loss(label[both], p) / entropy, rel=1e-5)
    for metric, (value, low, high) in pair.gains.items():
        mine, its = (pair.models[name].metric(metric) for name in ("shadow", "served"))
        assert value is not None and low is not None and high is not None and mine is not None and its is not None
        assert value == pytest.approx((its - mine) if metric == "ne" else (mine - its), abs=1e-6)
        assert 0 < low <= value <= high, metric  # so much noise is no chance


def test_pairs_without_a_sample_in_common_are_left_out(tmp_path: Path, draw: np.random.Generator) -> None:
    noise = {"shadow.v10": 1.0, "shadow.v9": 1.0, "served.v1": 1.0, "served.v2": 1.0}
    parts = {"shadow_v9": slice(0, 300), "served_v1": slice(0, 200), "served_v2": slice(300, None)}
    tables(tmp_path, draw, noise, **parts)
    pairs = [(one.shadow, one.served, one.rows) for one in found(tmp_path)]
    assert pairs == [
        ("shadow.v9", "served.v1", 200),
        ("shadow.v10", "served.v1", 200),
        ("shadow.v10", "served.v2", 300),
    ]


def test_rows_whose_outcome_may_still_come_do_not_count(tmp_path: Path, draw: np.random.Generator) -> None:
    tables(tmp_path, draw, {"shadow.v2": 1.0, "served.v1": 1.0})  # a row a minute
    assert found(tmp_path)[0].rows == ROWS
    assert found(tmp_path, "labels.window_s=6000")[0].rows == ROWS - 100


def test_a_log_without_shadows_is_not_read(tmp_path: Path, draw: np.random.Generator) -> None:
    tables(tmp_path, draw, {"teacher": 1.0})
    assert found(tmp_path) == []
