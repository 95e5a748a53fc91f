"""What one feature tells of a label: against brute force, and the label found under any other name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.store.sample_store import build_store
from recdistill.evaluate.feature_scores import SURE, auc_alone, feature_scores, halves
from recdistill.tables.delta.types import TIME
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema

ROWS = 400


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), min_size=1, max_size=60))
def test_each_row_is_scored_by_the_other_half(rows: list[tuple[int, int]]) -> None:
    code, label = np.array([c for c, _ in rows]), np.array([y for _, y in rows], np.float64)
    found, half = auc_alone(code, label), halves(len(rows))
    if min(label.sum(), len(label) - label.sum()) < SURE:
        assert found is None
        return
    others = [label[(code == c) & (half != h)] for c, h in zip(code, half, strict=True)]
    score = [(other.sum() + label.mean()) / (len(other) + 1) for other in others]
    pairs = [(a, b) for a in range(len(rows)) for b in range(len(rows)) if half[a] == half[b] and label[a] > label[b]]
    right = [1.0 if score[a] > score[b] else 0.5 * (score[a] == score[b]) for a, b in pairs]
    assert found == (pytest.approx(np.mean(right)) if pairs else None)


@pytest.mark.parametrize("codes", [1, 2, 30, 3_000])
def test_a_feature_that_tells_nothing_scores_a_half(codes: int) -> None:
    draw = np.random.default_rng(0)
    code, label = draw.integers(0, codes, 20_000), (draw.random(20_000) < 0.1).astype(np.float64)
    assert auc_alone(code, label) == pytest.approx(0.5, abs=0.025)


def log_of(folder: Path, features: dict[str, pl.Series], kinds: dict[str, str], label: np.ndarray) -> EventLog:
    """Return a log of one row a second with these features and one task."""
    schema = EventSchema(
        ("click", "buy"), kinds, edges={name: (0.3,) for name, kind in kinds.items() if kind == "float32"}
    )
    second = pl.int_range(ROWS, eager=True)
    columns = {
        "sample_id": second,
        "time": (second * 1_000_000).cast(TIME),
        "user_id": second % 7,
        "item_id": second % 5,
    }
    labels = {"label_click": pl.Series(label, dtype=pl.Float32), "label_buy": pl.Series([0.0] * ROWS, dtype=pl.Float32)}
    rows = pl.DataFrame(columns | features | labels).select(list(schema.columns()))
    events = EventLog.create(folder, schema)
    events.append(rows, writer="t", sequence=0)
    return events


def test_the_label_is_found_under_any_other_name_and_a_number_of_each_row_is_not(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    label = (draw.random(ROWS) < 0.3).astype(np.float64)
    features = {
        "feature_word": pl.Series(np.where(label == 1, "no", "yes")),
        "feature_scaled": pl.Series((0.5 - 0.3 * label), dtype=pl.Float32),
        "feature_tags": pl.Series([["a", "b"] if one else ["a"] for one in label]),
        "feature_split": pl.Series(draw.integers(0, 40, ROWS) * 2 + label.astype(np.int64)),
        "feature_row": pl.Series(np.arange(ROWS)),
        "feature_noise": pl.Series(draw.integers(0, 9, ROWS)),
    }
    kinds = {"word": "string", "scaled": "float32", "tags": "list<string>", "split": "int64", "row": "int64"}
    kinds["noise"] = "int64"
    events = log_of(tmp_path / "events", features, kinds, label)
    store = build_store(tmp_path / "store", events, None)
    found = feature_scores(store, events.schema, np.arange(ROWS))
    assert {scores["buy"] for scores in found.values()} == {None}
    assert [found[name]["click"] for name in ("word", "scaled", "tags")] == [1.0, 1.0, 1.0]
    click = {name: scores["click"] or 0.0 for name, scores in found.items()}
    assert click["split"] > 0.98 and click["row"] == 0.5 and click["noise"] < 0.6
