"""The simulator keeps what its docstring promises: the truth is true, time flows one way, only a long memory helps."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from recdistill.data.readers.simulator import SIMULATED, Simulator, SimulatorConfig, _distinct
from recdistill.errors import UserError
from recdistill.evaluate.metrics import auc
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog

CONFIG = SimulatorConfig(rows=120_000, users=400, items=900, seed=3)


@pytest.fixture(scope="module")
def log():
    return pl.concat(Simulator(CONFIG).chunks())


@pytest.mark.parametrize("task", SIMULATED.tasks)
def test_labels_are_drawn_with_the_probability_that_is_given(log, task):
    p, y = log[f"probability_{task}"].to_numpy(), log[f"label_{task}"].to_numpy()
    assert p.min() > 0 and p.max() < 1
    groups = {
        "tenth": np.argsort(np.argsort(p)) * 10 // len(p),
        "position": log["feature_position"].to_numpy(),
        "device": log["feature_device"].to_numpy(),
        "part of the log": np.arange(len(p)) * 8 // len(p),
    }
    for name, of in groups.items():
        for group in np.unique(of):
            inside = of == group
            deviation = np.sqrt((p[inside] * (1 - p[inside])).sum())
            assert abs(y[inside].sum() - p[inside].sum()) < 4.5 * deviation, (name, group)


def test_one_seed_one_log_however_it_is_cut_and_how_often_it_is_read(log):
    simulator = Simulator(CONFIG)
    for rows in (1, 20_000, 10**9):
        assert_frame_equal(pl.concat(simulator.chunks(rows)), log)
    other = pl.concat(Simulator(SimulatorConfig(rows=120_000, users=400, items=900, seed=4)).chunks())
    assert (other["user_id"] != log["user_id"]).mean() > 0.9


def test_time_ascends_and_labels_are_known_later(log):
    assert (
        log["time"].is_sorted() and (log["time"].diff().drop_nulls() >= pl.Series([0]).cast(pl.Duration("us"))[0]).all()
    )
    assert (log["time"][-1] - log["time"][0]).total_seconds() == pytest.approx(30 * 86_400, rel=1e-3)
    click, finish = ((log[f"label_time_{task}"] - log["time"]).dt.total_microseconds() for task in SIMULATED.tasks)
    assert click.min() >= 0 and (finish >= click).all()
    assert click.mean() / 60e6 == pytest.approx(10, rel=0.05)
    for columns in (["sample_id"], ["request_id", "feature_position"]):
        assert not log.select(columns).is_duplicated().any()
    assert log.group_by("request_id").agg(pl.col("user_id", "time", "feature_device").n_unique()).drop(
        "request_id"
    ).max().row(0) == (1, 1, 1)


def test_two_tasks_and_a_finish_needs_a_click(log):
    assert SIMULATED.tasks == ("click", "finish")
    assert (log["label_finish"] <= log["label_click"]).all()
    assert (log["probability_finish"] < log["probability_click"]).all()
    assert 0.3 < log["label_finish"].sum() / log["label_click"].sum() < 0.7


def test_a_lower_position_gets_fewer_clicks(log):
    by_position = (
        log.group_by("feature_position")
        .agg(pl.col("label_click").mean())
        .sort("feature_position")["label_click"]
        .to_list()
    )
    assert (
        len(by_position) == 4
        and by_position == sorted(by_position, reverse=True)
        and by_position[0] > 1.3 * by_position[3]
    )


def test_items_are_born_during_the_log_and_never_shown_before(log):
    assert log["feature_age_days"].min() >= 0
    first = log.group_by("item_id").agg(pl.col("time").min(), pl.col("feature_age_days").first(), pl.len())
    birth = Simulator(CONFIG).birth
    seconds = (log["time"].dt.epoch("us") - log["time"].dt.epoch("us")[0]).to_numpy() / 1e6
    assert (seconds / (30 * 86_400) >= birth[log["item_id"].to_numpy()] - 1e-9).all()
    assert 0.3 < (birth > 0).mean() < 0.6 and len(first) > 0.9 * CONFIG.items


def clicks_on_the_topic(log, length):
    """Return, per event of the last third, the user's clicks minus 0.14 a time on its topic over the
    `length` events before.
    """
    out = np.zeros(len(log))
    order = np.argsort(log["user_id"].to_numpy(), kind="stable")
    cuts = np.flatnonzero(np.diff(log["user_id"].to_numpy()[order])) + 1
    topic, click = log["feature_topic"].to_numpy(), log["label_click"].to_numpy()
    for rows in np.split(order, cuts):
        age = np.arange(len(rows))[:, None] - np.arange(len(rows))
        same = (topic[rows][:, None] == topic[rows]) & (age > 0) & (age <= length)
        out[rows] = same @ (click[rows] - 0.14)
    return out[2 * len(log) // 3 :]


def test_a_long_history_tells_more_than_a_short_one(log):
    truth = np.log(log["probability_click"].to_numpy())[2 * len(log) // 3 :]
    explained = [np.corrcoef(clicks_on_the_topic(log, length), truth)[0, 1] ** 2 for length in (20, 100, 300)]
    assert explained[0] > 0.01
    assert explained[1] > 2 * explained[0] and explained[2] > 1.3 * explained[1]


def test_the_truth_can_be_recorded_as_a_models_predictions_and_none_scores_better(log, tmp_path):
    predictions = PredictionLog.create(tmp_path / "p", SIMULATED.tasks)
    for sequence, chunk in enumerate(Simulator(CONFIG).truth()):
        predictions.append(chunk, model="truth", version=0, kind="imported", writer="truth", sequence=sequence)
    rows = predictions.scan().sort("sample_id").collect()
    for task in SIMULATED.tasks:
        p = log[f"probability_{task}"].to_numpy()
        np.testing.assert_allclose(1 / (1 + np.exp(-rows[f"logit_{task}"].to_numpy().astype(float))), p, rtol=1e-5)
    best = auc(log["label_click"].to_numpy(), rows["logit_click"].to_numpy())
    popular = Simulator(CONFIG).quality[log["item_id"].to_numpy()]
    assert 0.7 < best < 0.9 and auc(log["label_click"].to_numpy(), popular) < best - 0.05


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 300),
    users=st.integers(1, 5),
    items=st.integers(1, 9),
    topics=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_any_size_gives_exactly_its_rows_in_the_tables_types(rows, users, items, topics, seed):
    config = SimulatorConfig(rows, users, items, topics, topics_liked=(topics + 1) // 2, seed=seed)
    log = pl.concat(Simulator(config).chunks())
    assert len(log) == rows and log["feature_age_days"].min() >= 0
    assert dict(log.select(list(SIMULATED.columns())).schema) == SIMULATED.columns()


def test_a_user_may_have_20000_events_and_there_may_be_a_million_users(tmp_path):
    events = EventLog.create(tmp_path / "e", SIMULATED)
    few = pl.concat(Simulator(SimulatorConfig(rows=40_000, users=2, items=50)).chunks())
    events.append(few.select(list(SIMULATED.columns())), writer="t", sequence=0)
    assert few["user_id"].value_counts()["count"].min() > 19_000
    many = Simulator(SimulatorConfig(rows=1_000, users=1_000_000, topics=100_000, items=10))
    assert next(many.chunks())["user_id"].max() > 900_000


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_liked_topics_are_distinct_and_evenly_drawn(topics, liked, seed):
    liked = min(topics, liked)
    chosen = _distinct(np.random.default_rng(seed), 400, topics, liked)
    assert all(len(set(row)) == liked for row in chosen.tolist())
    expected = 400 * liked / topics
    counts = np.bincount(chosen.reshape(-1), minlength=topics)
    assert abs(counts - expected).max() <= 6 * np.sqrt(expected * (1 - liked / topics) + 1e-9)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", 0),
        ("rows", "1e6"),
        ("rows", 1e6),
        ("users", -1),
        ("items", 0),
        ("topics", True),
        ("topics_liked", 101),
        ("seed", -1),
        ("days", 0),
        ("days", float("inf")),
        ("days", "30"),
        ("delay_minutes", -1.0),
        ("delay_minutes", float("nan")),
    ],
)
def test_refuses_what_cannot_be_by_name(key, value):
    with pytest.raises(UserError, match=f"simulator: {key}"):
        SimulatorConfig(**{key: value})
