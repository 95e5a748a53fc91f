"""The scored window: which rows it holds, and which logit meets which row."""

import numpy as np
import polars as pl
import pytest

from recdistill.errors import RecdistillError, UserError
from recdistill.evaluate.window import load_window, logits_of
from recdistill.tables.events import OutcomeLog
from recdistill.tables.predictions import PredictionLog
from tests.support.scored_rows import START, TIME, events_of, record


def test_the_window_holds_the_known_labels_after_the_share(tmp_path):
    rows = {
        "user_id": [1, 2, 1, 3, 2, 3, 4, 1],
        "label": [0, 1, 0, 1, None, 0, 1, 1],
        "item_id": [5, 5, 6, 6, 7, 5, 7, 8],
    }
    log, frame = events_of(tmp_path, rows)
    window = load_window(log, log.version, "click", 0.5, "user")
    assert window.total == 8 and window.share == 0.5
    assert window.ids.tolist() == frame["sample_id"].to_list()[5:]  # row 4 has no label yet
    assert window.samples.label.tolist() == [0, 1, 1]
    assert window.samples.user.tolist() == window.samples.group.tolist() == [0, 1, 2]
    assert window.rows["seen"].to_list() == [1, 0, 2]


def test_late_outcomes_are_scored_and_missing_ones_are_negatives(tmp_path):
    rows = {"user_id": [1, 2, 1, 3, 2], "label": [1, None, None, None, None]}
    log, frame = events_of(tmp_path, rows)
    outcomes = OutcomeLog.create(tmp_path / "outcomes", log.schema)
    ids = frame["sample_id"].to_list()
    late = pl.DataFrame(
        {
            "sample_id": [ids[1], ids[2], ids[2], ids[0]],
            "task": ["click"] * 4,
            "time": [START] * 4,
            "label": pl.Series([0, 0, 1, 0], dtype=pl.Float32),
        }
    ).cast({"time": TIME})
    outcomes.append(late, writer="test", sequence=0)
    window = load_window(log, log.version, "click", 0.0, "user")
    assert window.ids.tolist() == ids and window.samples.label.tolist() == [1, 0, 1, 0, 0]


def test_new_means_first_met_inside_the_window_even_in_an_unlabelled_row(tmp_path):
    rows = {
        "user_id": [1, 2, 1, 3, 2, 3, 4, 1],
        "label": [0, 1, 0, 1, None, 0, 1, 1],
        "item_id": [5, 5, 6, 6, 7, 5, 7, 8],
    }
    log, _ = events_of(tmp_path, rows)
    window = load_window(log, log.version, "click", 3 / 8, "user")
    assert window.rows["user_id"].to_list() == [3, 3, 4, 1]
    assert window.rows["new_user"].to_list() == [True, True, True, False]
    assert window.rows["new_item"].to_list() == [False, False, True, True]


def test_a_pinned_version_does_not_see_later_rows(tmp_path):
    rows = {"user_id": ["a", "b", "a", "b", "a", "b"], "label": [0, 1, 0, 1, 1, 0]}
    log, frame = events_of(tmp_path, {**rows, "user_id": [1, 2] * 3})
    assert load_window(log, log.version - 1, "click", 0.0, "user").ids.tolist() == frame["sample_id"].to_list()[:2]


def test_groups_are_requests_within_users_and_rows_without_one_stand_alone(tmp_path):
    rows = {"user_id": [1, 1, 2, 2, 2, 1], "request_id": [9, 9, 9, None, None, 8], "label": [0, 1, 0, 1, 1, 0]}
    log, _ = events_of(tmp_path, rows, has_request=True)
    group = load_window(log, log.version, "click", 0.0, "request").samples.group
    assert group.dtype == np.int64
    same = group[:, None] == group[None, :]
    expected = np.eye(6, dtype=bool)
    expected[0, 1] = expected[1, 0] = True
    assert np.array_equal(same, expected)
    by_user = load_window(log, log.version, "click", 0.0, "user").samples
    assert np.array_equal(by_user.group, by_user.user)


def test_a_row_without_a_value_is_in_no_domain(tmp_path):
    rows = {"user_id": [1, 2, 3, 4], "label": [0, 1, 1, 0], "feature_country": ["DE", None, "FR", "DE"]}
    log, frame = events_of(tmp_path, rows)
    window = load_window(log, log.version, "click", 0.0, "user", ["country"]).of_domain({"country": "DE"})
    assert window.ids.tolist() == frame["sample_id"].gather([0, 3]).to_list()
    assert window.samples.user.tolist() == window.groups["user"].tolist() == [0, 3]


def test_rows_cannot_be_grouped_by_a_request_that_the_log_has_not(tmp_path):
    log, _ = events_of(tmp_path, {"user_id": [1, 2, 3, 4], "label": [0, 1, 1, 0]})
    with pytest.raises(UserError, match="the log has no request ids"):
        load_window(log, log.version, "click", 0.5, "request")


def test_logits_meet_their_own_rows_and_no_others(tmp_path):
    n = 50
    log, frame = events_of(tmp_path, {"user_id": list(range(n)), "label": [0, 1] * (n // 2)})
    predictions = PredictionLog.create(tmp_path / "predictions", ("click",))
    function = frame["sample_id"].to_numpy() / 3.0  # logit = f(id)
    mixed = np.random.default_rng(0).permutation(n)
    for sequence, part in enumerate(np.split(mixed, 5)):
        record(predictions, frame[part], "a", function[part], sequence)
    record(predictions, frame, "b", -function)
    ids = load_window(log, log.version, "click", 0.4, "user").ids
    np.testing.assert_allclose(logits_of(predictions, predictions.version, "a", "click", ids, 0.0), ids / 3, rtol=1e-6)
    np.testing.assert_allclose(
        logits_of(predictions, predictions.version, "b", "click", ids, 0.5), -ids / 3 - 0.5, rtol=1e-6
    )
    with pytest.raises(RecdistillError, match="a: 15 of 30 scored samples have no prediction") as refused:
        half = PredictionLog.create(tmp_path / "half", ("click",))
        record(half, frame[35:], "a", function[35:])
        logits_of(half, half.version, "a", "click", ids, 0.0)
    assert not isinstance(refused.value, UserError)
    with pytest.raises(RecdistillError, match=f"no prediction; sample id {ids[0]} is that of two samples"):
        logits_of(predictions, predictions.version, "a", "click", np.repeat(ids[:1], 2), 0.0)
