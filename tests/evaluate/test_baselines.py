"""Baselines: what they may know, what they find, and what they do where there is nothing to learn from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.config.experiment import EvaluateConfig
from recdistill.data.store.label_order import LabelClock
from recdistill.evaluate import baselines as module
from recdistill.evaluate.baselines import baselines, count_features, learners
from recdistill.evaluate.window import load_window
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema
from tests.support.scored_rows import START, TIME

CONFIG = EvaluateConfig(start=0.5, seeds=[0])
ROWS = 4000


def log_of(path: Path, label: np.ndarray, known_after: timedelta | None = None, seed: int = 0) -> EventLog:
    """Return a log of 40 users and 30 items, a row a minute, with a number and a category as features."""
    draw = np.random.default_rng(seed)
    n = len(label)
    time = pl.Series([START + timedelta(minutes=i) for i in range(n)], dtype=TIME)
    frame = pl.DataFrame(
        {
            "sample_id": np.arange(n),
            "time": time,
            "user_id": draw.integers(0, 40, n),
            "item_id": draw.integers(0, 30, n),
            "feature_price": pl.Series(draw.normal(0, 1, n), dtype=pl.Float32),
            "feature_country": pl.Series([f"c{i}" for i in draw.integers(0, 5, n)]),
            "label_click": pl.Series(label, dtype=pl.Float32).fill_nan(None),
        }
    )
    if known_after is not None:
        frame = frame.with_columns(label_time_click=pl.col("time") + known_after)
    schema = EventSchema(
        tasks=("click",),
        features={"price": "float32", "country": "string"},
        label_times=("click",) if known_after is not None else (),
    )
    log = EventLog.create(path / "events", schema)
    log.append(frame.select(list(schema.columns())), writer="test", sequence=0)
    return log


def drawn(seed: int = 0, n: int = ROWS) -> np.ndarray:
    """Return labels whose rate is the user's and the item's own (the ids that `log_of` draws)."""
    draw, own = np.random.default_rng(seed), np.random.default_rng(seed + 100)
    user, item = draw.integers(0, 40, n), draw.integers(0, 30, n)
    odds = own.normal(0, 1.5, 40)[user] + own.normal(0, 1.0, 30)[item]
    return (own.random(n) < 1 / (1 + np.exp(-odds))).astype(np.float64)


def test_rates_of_users_and_items_are_found(tmp_path: Path) -> None:
    log = log_of(tmp_path, drawn())
    found = baselines(log, log.version, CONFIG)["counts"]
    assert found.auc is not None and found.gauc is not None and found.ne is not None
    assert found.auc > 0.75 and found.gauc > 0.6 and found.ne < 0.9
    assert found.gauc_by == {"user": pytest.approx(found.gauc)}


def test_labels_that_are_known_after_the_log_teach_nothing(tmp_path: Path) -> None:
    log = log_of(tmp_path, drawn(), known_after=timedelta(days=400))
    assert baselines(log, log.version, CONFIG) == {}


def test_a_positive_after_its_window_is_a_negative_until_it_comes(tmp_path: Path) -> None:
    log = log_of(tmp_path, np.ones(ROWS), known_after=timedelta(hours=10))
    frame = load_window(log, log.version, "click", CONFIG.start, "user")
    found = module._examples(log, log.version, frame, LabelClock(3_600_000_000))
    began = ROWS // 2
    assert found.fitted.tolist() == list(range(began - 60))  # whose window of an hour was over
    assert found.label[found.fitted].tolist() == [1.0] * (began - 600) + [0.0] * 540
    user = np.concatenate(list(log.batches(columns=["user_id"])))[:, 0]
    rate = float(found.label[found.fitted].mean())
    for row in (50, 400, 700, ROWS - 1):
        earlier = [(user[: max(row - after, 0)] == user[row]).sum() for after in (60, 600)]  # a row a minute
        wanted = count_features([tuple(np.array([float(n)]) for n in earlier)], rate)[0]  # type: ignore[list-item]
        assert found.counts[row, :2].tolist() == pytest.approx(wanted.tolist())


def test_a_log_that_is_scored_from_its_first_row_has_no_baseline(tmp_path: Path) -> None:
    log = log_of(tmp_path, drawn())
    assert baselines(log, log.version, EvaluateConfig(start=0.0, seeds=[0])) == {}


def test_trees_use_the_features_too(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    draw.integers(0, 40, ROWS), draw.integers(0, 30, ROWS)
    price = draw.normal(0, 1, ROWS)
    log = log_of(tmp_path, (np.abs(price) > 0.7).astype(float))
    found = baselines(log, log.version, CONFIG)
    assert found["lightgbm"].auc > 0.98 and found["counts"].auc < 0.6


@pytest.mark.parametrize("name", sorted(learners()))
def test_what_a_row_is_given_does_not_follow_from_its_own_label_nor_from_later_ones(tmp_path: Path, name: str) -> None:
    label, last = drawn(), ROWS - 700
    changed = np.where(np.arange(ROWS) >= last, 1 - label, label)
    logits = []
    for at, labels in enumerate((label, changed)):
        log = log_of(tmp_path / str(at), labels)
        frame = load_window(log, log.version, "click", CONFIG.start, "user")
        logits.append(learners()[name](module._examples(log, log.version, frame)))
    same = logits[0] == logits[1]
    assert same[: last - ROWS // 2 + 1].all() and not same[last - ROWS // 2 + 1 :].all()


def test_only_the_newest_rows_before_the_window_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(tmp_path, drawn())
    frame = load_window(log, log.version, "click", CONFIG.start, "user")
    monkeypatch.setattr(module, "FIT_ROWS", 100)
    examples = module._examples(log, log.version, frame)
    assert examples.fitted.tolist() == list(range(ROWS // 2 - 100, ROWS // 2))
    assert examples.scored.tolist() == list(range(ROWS // 2, ROWS))


def test_a_column_that_never_changes_is_no_division_by_zero(tmp_path: Path) -> None:
    log = log_of(tmp_path, drawn())
    frame = load_window(log, log.version, "click", CONFIG.start, "user")
    examples = module._examples(log, log.version, frame)
    flat = replace(examples, counts=np.c_[examples.counts[:, :3], np.ones(ROWS)])
    assert np.isfinite(learners()["counts"](flat)).all()


def test_a_mean_starts_at_the_average_rate() -> None:
    features = count_features([(np.array([0.0, 10.0]), np.array([0.0, 10.0]))], rate=0.2)
    assert features[0].tolist() == pytest.approx([np.log(0.2 / 0.8), 0.0])
    assert features[1].tolist() == pytest.approx([np.log(0.6 / 0.4), np.log(11)])
